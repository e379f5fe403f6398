//! `doorward record`: a stretch of `auth.events` out of Kafka, for `replay`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::de::IgnoredAny;

use super::{OrStatus, Status};
use crate::event::Timestamp;
use crate::stretch::{Recording, Stretch};

/// Records between two looks at the progress.
const SHOW_EVERY: u64 = 1_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes one envelope a line, in order of the broker's time: \
{\"broker_time\":…,\"partition\":…,\"offset\":…,\"event\":{…}}. It joins no group and commits \
nothing, and sees only what is committed. Messages that are no JSON objects are counted and \
left out.

Example:
  doorward record --config doorward.toml --from 2026-11-15T00:00:00Z --to 2026-11-22T00:00:00Z \
--output last-week.ndjson.zst

Exit status: 0 done, 2 usage or configuration, 3 the cluster does not answer.")]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The broker's time of the first record, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Timestamp,
    /// The time that the records are before, RFC 3339, or now
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Timestamp,
    /// Where to write; compressed where its name ends in .gz or .zst [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(Timestamp(jiff::Timestamp::now().as_millisecond()));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Timestamp(time.as_millisecond())),
        Err(_) => Err("not a time with its zone, such as 2026-11-15T00:00:00Z, or now".into()),
    }
}

/// Records the stretch.
///
/// # Errors
/// Where the topic cannot be read, or the output not be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.from >= args.to {
        let error = anyhow!("--from is not before --to: {} to {}", args.from, args.to);
        return Err(Status::Usage.error(error));
    }
    let config = super::load_config(&args.config)?;
    let stretch = Stretch::open(&config.kafka, &config.topics.events, args.from, args.to)?;
    let bar = progress(stretch.records());
    let (mut written, mut first, mut last) = (0_u64, None, None);
    let (mut no_json, mut first_no_json) = (0_u64, None);
    let mut output = Output::create(args.output.as_deref()).or_status(Status::Usage)?;
    let told = stretch.each(|recording| {
        let event = match object(recording.payload.unwrap_or_default()) {
            Ok(event) => event,
            Err(why) => {
                no_json += 1;
                first_no_json.get_or_insert_with(|| {
                    let (partition, offset) = (recording.partition, recording.offset);
                    format!("partition {partition}, offset {offset}: {why}")
                });
                return Ok(());
            }
        };
        write_line(&mut output, &recording, event).context("the output cannot be written")?;
        written += 1;
        first.get_or_insert(recording.broker_time);
        last = Some(recording.broker_time);
        if written.is_multiple_of(SHOW_EVERY) {
            bar.set_position(written);
        }
        Ok(())
    });
    bar.finish_and_clear();
    let told = match told {
        Ok(told) => told,
        // Whoever reads has read enough.
        Err(error) if is_broken_pipe(&error) => return Ok(Status::Done.into()),
        Err(error) => return Err(error),
    };
    output.finish().context("the output cannot be written")?;
    let span = match (first, last) {
        (Some(first), Some(last)) => format!(", broker times {first} to {last}"),
        _ => String::new(),
    };
    eprintln!("{written} records of {}{span}", config.topics.events);
    if let Some(first) = first_no_json {
        eprintln!("{no_json} messages are no JSON objects and were left out; the first is {first}");
    }
    if told.no_time > 0 {
        eprintln!(
            "{} messages have no time of the broker's and were left out",
            told.no_time
        );
    }
    if told.own_times > 0 {
        eprintln!(
            "{} records bear their producers' times: the topic is CreateTime, where \
             LogAppendTime would be the broker's clock",
            told.own_times
        );
    }
    for (partition, offset) in told.held_back {
        eprintln!(
            "partition {partition} ends at offset {offset}: a transaction is open there, and \
             what follows it cannot be seen yet"
        );
    }
    Ok(Status::Done.into())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn progress(records: u64) -> ProgressBar {
    // Where stderr is no terminal it draws nothing.
    let bar = ProgressBar::with_draw_target(Some(records), ProgressDrawTarget::stderr());
    let template = "{wide_bar} {human_pos}/{human_len} records, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// `payload`, which is a JSON object.
fn object(payload: &[u8]) -> Result<&[u8], String> {
    let text = std::str::from_utf8(payload).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let text = text.trim_ascii();
    if !text.starts_with('{') {
        return Err("it is not a JSON object".to_owned());
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    Ok(text.as_bytes())
}

fn write_line(out: &mut Output, recording: &Recording<'_>, event: &[u8]) -> io::Result<()> {
    let mut event = event;
    write!(
        out,
        "{{\"broker_time\":{},\"partition\":{},\"offset\":{},\"event\":",
        recording.broker_time.0, recording.partition, recording.offset
    )?;
    // In JSON a line's end can only stand between two tokens, where a blank says the same.
    while let Some(at) = memchr::memchr2(b'\n', b'\r', event) {
        out.write_all(&event[..at])?;
        out.write_all(b" ")?;
        event = &event[at + 1..];
    }
    out.write_all(event)?;
    out.write_all(b"}\n")
}

/// Where the lines go. A file has its name only when it is complete.
struct Output {
    packer: Packer,
    /// Where it is written, and what it will be called.
    files: Option<(PathBuf, PathBuf)>,
}

enum Packer {
    Plain(BufWriter<Box<dyn Write>>),
    Gzip(GzEncoder<BufWriter<Box<dyn Write>>>),
    Zstd(zstd::Encoder<'static, BufWriter<Box<dyn Write>>>),
}

impl Output {
    fn create(path: Option<&Path>) -> anyhow::Result<Output> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            let plain: Box<dyn Write> = Box::new(io::stdout().lock());
            return Ok(Output {
                packer: Packer::Plain(BufWriter::new(plain)),
                files: None,
            });
        };
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        let plain: BufWriter<Box<dyn Write>> = BufWriter::new(Box::new(file));
        let packer = match path.extension().and_then(|end| end.to_str()) {
            Some("gz") => Packer::Gzip(GzEncoder::new(plain, Compression::default())),
            Some("zst") => Packer::Zstd(zstd::Encoder::new(plain, 0)?),
            _ => Packer::Plain(plain),
        };
        Ok(Output {
            packer,
            files: Some((partial, path.to_owned())),
        })
    }

    fn finish(self) -> io::Result<()> {
        match self.packer {
            Packer::Plain(mut plain) => plain.flush()?,
            Packer::Gzip(packer) => packer.finish()?.flush()?,
            Packer::Zstd(packer) => packer.finish()?.flush()?,
        }
        match self.files {
            Some((partial, path)) => std::fs::rename(partial, path),
            None => Ok(()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.packer {
            Packer::Plain(plain) => plain.write(bytes),
            Packer::Gzip(packer) => packer.write(bytes),
            Packer::Zstd(packer) => packer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.packer {
            Packer::Plain(plain) => plain.flush(),
            Packer::Gzip(packer) => packer.flush(),
            Packer::Zstd(packer) => packer.flush(),
        }
    }
}
