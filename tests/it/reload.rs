//! Files that change while doorward runs.

mod memory;
