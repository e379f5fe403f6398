//! The map of a partition's accounts.
//!
//! Split into many tables by the key, so that growing moves a sixty-fourth of the accounts
//! at a time: one table of ten million would stand still for half a second, and hold twice
//! its memory meanwhile.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::StateKey;
use super::account::Account;

const TABLES: usize = 64;

#[derive(Debug)]
pub struct Accounts {
    tables: Box<[HashTable<Account>]>,
    len: usize,
}

impl Default for Accounts {
    fn default() -> Self {
        Accounts {
            tables: (0..TABLES).map(|_| HashTable::new()).collect(),
            len: 0,
        }
    }
}

impl Accounts {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the tables, free places included, without what hangs on the accounts.
    pub fn bytes(&self) -> usize {
        let tables = self.tables.iter().map(HashTable::allocation_size);
        tables.sum::<usize>() + size_of_val(&*self.tables)
    }

    pub fn get(&self, key: StateKey) -> Option<&Account> {
        self.tables[table(key)].find(hash(key), |account| account.key == key)
    }

    /// Every account's key.
    pub fn keys(&self) -> Vec<StateKey> {
        let tables = self.tables.iter();
        tables.flatten().map(|account| account.key).collect()
    }

    /// The account of `key`, made first where there is none.
    pub fn get_or_insert(&mut self, key: StateKey) -> &mut Account {
        let found = self.tables[table(key)].entry(
            hash(key),
            |account| account.key == key,
            |account| hash(account.key),
        );
        match found {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.len += 1;
                entry.insert(Account::new(key)).into_mut()
            }
        }
    }

    pub fn remove(&mut self, key: StateKey) -> Option<Account> {
        let entry = self.tables[table(key)]
            .find_entry(hash(key), |account| account.key == key)
            .ok()?;
        self.len -= 1;
        Some(entry.remove().0)
    }
}

/// The key is a keyed hash already: one part of it says which table, another where in it.
fn table(key: StateKey) -> usize {
    usize::from(key.0[15]) % TABLES
}

fn hash(key: StateKey) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key.0[..8]);
    u64::from_ne_bytes(first)
}
