//! The files that `replay` reads: NDJSON, plain or compressed, of bare events or of
//! envelopes as `record` writes them.
//!
//! Files are cut into blocks of whole lines, so that others can parse while this reads. What
//! a file is (gzip, zstd, plain) is told by its first bytes, for standard input too.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use memchr::memmem::Finder;
use serde::Deserialize;
use sonic_rs::LazyValue;

use crate::event::Timestamp;

/// Bytes of one line at most; Kafka's own limit on a message is a tenth of it.
const MAX_LINE: usize = 10 * 1024 * 1024;
/// Bytes of one block, roughly: its events, decoded, stay in a core's own cache.
const BLOCK: usize = 64 * 1024;
/// The last millisecond of the year 9999.
const MAX_TIME_MS: i64 = 253_402_300_799_999;
/// Partitions that an envelope may name: each takes memory of its own.
const MAX_PARTITION: i32 = 99_999;

static BROKER_TIME: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"broker_time\""));

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// What a line says of the record that its event was, beside the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub broker_time: Timestamp,
    pub partition: i32,
    pub offset: i64,
}

/// One line: an event, and what is known of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// `None`: a bare event.
    pub recorded: Option<Recorded>,
    pub event: &'a [u8],
}

#[derive(Deserialize)]
struct Envelope<'a> {
    broker_time: i64,
    partition: i32,
    offset: i64,
    #[serde(borrow)]
    event: LazyValue<'a>,
}

impl Line<'_> {
    /// An envelope where the line is one, else a bare event.
    ///
    /// # Errors
    /// What is wrong with an envelope.
    pub fn parse(text: &[u8]) -> Result<Line<'_>, String> {
        let bare = Line {
            recorded: None,
            event: text,
        };
        // An ordinary event is not parsed twice.
        if BROKER_TIME.find(text).is_none() {
            return Ok(bare);
        }
        let envelope: Envelope<'_> = match sonic_rs::from_slice(text) {
            Ok(envelope) => envelope,
            // An event may have a field or a text of that name.
            Err(_) if !text.trim_ascii_start().starts_with(b"{\"broker_time\"") => return Ok(bare),
            Err(_) => {
                return Err(
                    "an envelope needs `broker_time` in milliseconds, `partition`, `offset` and \
                     `event`"
                        .into(),
                );
            }
        };
        if !(0..=MAX_TIME_MS).contains(&envelope.broker_time) {
            return Err("`broker_time` is no time in milliseconds since 1970".into());
        }
        if !(0..=MAX_PARTITION).contains(&envelope.partition) {
            return Err(format!("`partition` is not within 0 and {MAX_PARTITION}"));
        }
        if envelope.offset < 0 {
            return Err("`offset` is negative".into());
        }
        // What the lazy value borrows from is the line itself.
        let event = match memchr::memmem::find(text, envelope.event.as_raw_str().as_bytes()) {
            Some(at) => &text[at..at + envelope.event.as_raw_str().len()],
            None => return Err("`event` cannot be read".into()),
        };
        Ok(Line {
            recorded: Some(Recorded {
                broker_time: Timestamp(envelope.broker_time),
                partition: envelope.partition,
                offset: envelope.offset,
            }),
            event,
        })
    }
}

/// Whole lines of one file.
#[derive(Debug)]
pub struct Block {
    /// Index among the files.
    pub file: usize,
    /// From 1.
    pub first_line: u64,
    pub bytes: Vec<u8>,
}

/// What reading brings.
#[derive(Debug)]
pub enum Piece {
    Lines(Block),
    /// A line of more than 10 MiB, which was passed over.
    TooLong {
        file: usize,
        line: u64,
    },
}

/// Why a file cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("cannot open {file}: {error}")]
    Open { file: String, error: io::Error },
    #[error("{file} is a folder; name the files in it")]
    Folder { file: String },
    #[error("{file} is not what its name says: it does not begin as {format} does")]
    OtherFormat { file: String, format: &'static str },
    #[error("cannot read {file} beyond line {line}: {error}{}", hint(*.packed))]
    Read {
        file: String,
        /// The last line that was read whole.
        line: u64,
        packed: bool,
        error: io::Error,
    },
}

fn hint(packed: bool) -> &'static str {
    if packed {
        "; the compressed data is damaged or cut off: is the file complete?"
    } else {
        ""
    }
}

/// Counts the bytes that are read from the files themselves, compressed as they are.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

type Raw = BufReader<Counted<Box<dyn Read + Send>>>;
type Whole = Chain<Cursor<Vec<u8>>, Raw>;

/// An open file, unpacked.
pub struct Input {
    reader: Box<dyn Read + Send>,
    name: String,
    packed: bool,
    /// Lines are handed on as they come, rather than in full blocks.
    live: bool,
}

/// Opens `path`; `-` is standard input. `read` counts the bytes that are taken from it.
///
/// # Errors
/// Where it cannot be opened, or is not what its name says.
pub fn open(path: &Path, read: &Arc<AtomicU64>) -> Result<Input, InputError> {
    let name = path.display().to_string();
    let live = path == Path::new("-");
    let failed = |error| InputError::Open {
        file: name.clone(),
        error,
    };
    let inner: Box<dyn Read + Send> = if live {
        Box::new(io::stdin())
    } else {
        if path.is_dir() {
            return Err(InputError::Folder { file: name });
        }
        Box::new(File::open(path).map_err(failed)?)
    };
    let mut raw = BufReader::with_capacity(
        64 * 1024,
        Counted {
            inner,
            read: Arc::clone(read),
        },
    );
    let mut begin = Vec::new();
    raw.by_ref()
        .take(4)
        .read_to_end(&mut begin)
        .map_err(failed)?;
    let is_gzip = begin.starts_with(GZIP);
    let is_zstd = begin.starts_with(ZSTD);
    let promised = match path.extension().and_then(|end| end.to_str()) {
        Some("gz") if !is_gzip => Some("gzip"),
        Some("zst") if !is_zstd => Some("Zstandard"),
        _ => None,
    };
    if let Some(format) = promised {
        return Err(InputError::OtherFormat { file: name, format });
    }
    let whole: Whole = Cursor::new(begin).chain(raw);
    let reader: Box<dyn Read + Send> = if is_gzip {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else if is_zstd {
        Box::new(zstd::Decoder::with_buffer(BufReader::new(whole)).map_err(failed)?)
    } else {
        Box::new(whole)
    };
    Ok(Input {
        reader,
        name,
        packed: is_gzip || is_zstd,
        live,
    })
}

/// Reads `files` in order and hands their lines to `each`, which says whether to go on.
///
/// # Errors
/// At the first file that cannot be read to its end; what came before was handed on.
pub fn read_all(
    files: &[PathBuf],
    read: &Arc<AtomicU64>,
    mut each: impl FnMut(Piece) -> bool,
) -> Result<(), InputError> {
    // All are opened once before the first is read: a mistyped name is said at once.
    // What is no ordinary file, such as a pipe, can be read only once.
    for path in files.iter().filter(|path| *path != Path::new("-")) {
        if path.is_file() || path.is_dir() || !path.exists() {
            drop(open(path, &Arc::default())?);
        }
    }
    for (file, path) in files.iter().enumerate() {
        if !open(path, read)?.read_blocks(file, &mut each)? {
            break;
        }
    }
    Ok(())
}

/// Hands every line of one file to `each`, with its number from 1; lines that hold nothing,
/// or are too long, are passed over.
///
/// # Errors
/// Where the file cannot be opened or not read to its end.
pub fn for_each_line(path: &Path, mut each: impl FnMut(u64, &[u8])) -> Result<(), InputError> {
    open(path, &Arc::default())?.read_blocks(0, &mut |piece| {
        if let Piece::Lines(block) = piece {
            for (at, line) in lines(&block.bytes) {
                each(block.first_line + at, line);
            }
        }
        true
    })?;
    Ok(())
}

impl Input {
    /// `false` where `each` wants no more.
    fn read_blocks(
        mut self,
        file: usize,
        each: &mut impl FnMut(Piece) -> bool,
    ) -> Result<bool, InputError> {
        let mut held = Vec::new();
        let mut line = 1;
        loop {
            let mut bytes = std::mem::take(&mut held);
            let (ended, failure) = match self.fill(&mut bytes) {
                Ok(ended) => (ended, None),
                Err(error) => (false, Some(error)),
            };
            if line == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
                bytes.drain(..BYTE_ORDER_MARK.len());
            }
            let whole = match memchr::memrchr(b'\n', &bytes) {
                _ if ended => bytes.len(),
                Some(at) => at + 1,
                None => 0,
            };
            if whole == 0 && bytes.len() > MAX_LINE && failure.is_none() {
                held = self
                    .pass_over()
                    .map_err(|error| self.failed(error, line - 1))?;
                if !each(Piece::TooLong { file, line }) {
                    return Ok(false);
                }
                line += 1;
                continue;
            }
            held = bytes.split_off(whole);
            if !bytes.is_empty() {
                let first_line = line;
                line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
                let block = Block {
                    file,
                    first_line,
                    bytes,
                };
                if !each(Piece::Lines(block)) {
                    return Ok(false);
                }
            }
            if let Some(error) = failure {
                return Err(self.failed(error, line - 1));
            }
            if ended {
                return Ok(true);
            }
        }
    }

    /// Adds a block to `bytes`; `true` at the end of the file.
    fn fill(&mut self, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let begin = bytes.len();
        let mut filled = begin;
        bytes.resize(begin + BLOCK, 0);
        let result = loop {
            match self.reader.read(&mut bytes[filled..]) {
                Ok(0) => break Ok(true),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Err(error),
            }
            if self.live || filled == bytes.len() {
                break Ok(false);
            }
        };
        bytes.truncate(filled);
        result
    }

    /// Reads on to the end of a line that is too long; what follows it.
    fn pass_over(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let mut bytes = Vec::new();
            let ended = self.fill(&mut bytes)?;
            if let Some(at) = memchr::memchr(b'\n', &bytes) {
                return Ok(bytes.split_off(at + 1));
            }
            if ended {
                return Ok(Vec::new());
            }
        }
    }

    fn failed(&self, error: io::Error, line: u64) -> InputError {
        InputError::Read {
            file: self.name.clone(),
            line,
            packed: self.packed,
            error,
        }
    }
}

/// The lines of `bytes`, without those that hold nothing.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = bytes;
    let mut number = 0;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(end);
            rest = after;
            number += 1;
            if !line.trim_ascii().is_empty() {
                return Some((number - 1, line));
            }
        }
        None
    })
}

/// Bytes of `files` as they lie there; `None` where that is not known.
pub fn total_bytes(files: &[PathBuf]) -> Option<u64> {
    let size = |path: &PathBuf| match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Some(found.len()),
        _ => None,
    };
    files.iter().map(size).sum()
}
