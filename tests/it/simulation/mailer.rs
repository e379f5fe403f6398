//! The mailer.

use doorward::record::MailRecord;
use doorward::sim::topic::Topic;
use doorward::sim::world::{Actor, World};

use super::bug::Bug;
use super::fate::Server;
use super::people::{Delivered, Mailbox, mint};

pub struct Mailer {
    mailbox: Mailbox,
    positions: Vec<i64>,
}

impl Mailer {
    pub fn new(world: &World, mailbox: Mailbox, _server: Server, _bug: Option<Bug>) -> Mailer {
        let partitions = world.cluster(|c| c.partitions(Topic::Mail));
        Mailer {
            mailbox,
            positions: vec![0; partitions as usize],
        }
    }
}

impl Actor for Mailer {
    fn step(&mut self, world: &World) -> Option<u64> {
        let at = world.now();
        let mailbox = &self.mailbox;
        let positions = &mut self.positions;
        world.cluster(|cluster| {
            let now = cluster.time(at);
            for (partition, position) in positions.iter_mut().enumerate() {
                let log = cluster.log((Topic::Mail, partition as i32));
                for record in log.committed(*position) {
                    *position = record.offset + 1;
                    let payload = record.message.payload.as_deref().unwrap_or_default();
                    let mail: MailRecord = serde_json::from_slice(payload).unwrap();
                    let token = mint(&mail, now);
                    mailbox.borrow_mut().push(Delivered { at, mail, token });
                }
            }
        });
        Some(at + 300)
    }
}

pub fn judge(_world: &World, _mailbox: &[Delivered]) -> Vec<String> {
    Vec::new()
}
