//! The files that `replay` reads: NDJSON, plain or compressed, of bare events or of
//! envelopes as `record` writes them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::Timestamp;

/// Bytes of one line at most; Kafka's own limit on a message is a tenth of it.
const MAX_LINE: u64 = 10 * 1024 * 1024;

/// One line: an event, and what is known of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub broker_time: Option<Timestamp>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    pub event: &'a [u8],
}

#[derive(Deserialize)]
struct Envelope<'a> {
    broker_time: i64,
    partition: i32,
    offset: i64,
    #[serde(borrow)]
    event: &'a RawValue,
}

impl Line<'_> {
    /// An envelope where the line is one, else a bare event.
    pub fn parse(text: &[u8]) -> Line<'_> {
        match serde_json::from_slice::<Envelope<'_>>(text) {
            Ok(envelope) => Line {
                broker_time: Some(Timestamp(envelope.broker_time)),
                partition: Some(envelope.partition),
                offset: Some(envelope.offset),
                event: envelope.event.get().as_bytes(),
            },
            Err(_) => Line {
                broker_time: None,
                partition: None,
                offset: None,
                event: text,
            },
        }
    }
}

/// Opens `path`: `-` is standard input, `.gz` and `.zst` are unpacked.
///
/// # Errors
/// Where the file cannot be opened, or is not what its name says.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path)?;
    Ok(match path.extension().and_then(|ext| ext.to_str()) {
        Some("gz") => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
        Some("zst") => Box::new(BufReader::new(zstd::Decoder::new(file)?)),
        _ => Box::new(BufReader::new(file)),
    })
}

/// Hands every line to `each`, with its number from 1.
///
/// # Errors
/// Where reading fails, or a line is longer than 10 MiB.
pub fn for_each_line(
    reader: &mut dyn BufRead,
    mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        number += 1;
        if reader.take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.len() as u64 == MAX_LINE && line.last() != Some(&b'\n') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {number} is longer than 10 MiB: is this NDJSON, one event a line?"),
            ));
        }
        each(number, &line)?;
    }
}
