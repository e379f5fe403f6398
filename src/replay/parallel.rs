//! A whole replay on all cores, with the same result whatever their number.
//!
//! One thread reads and cuts the files into blocks. Then, a few blocks at a time: every
//! block is parsed, all at once; the clock and the offsets run over the events in the order
//! of the stream, which is little work for one thread; every partition is judged, all at
//! once; and what was said is handed on in the order of the stream. While some blocks are
//! judged, the next ones are parsed, so that no core waits for the others. A partition
//! belongs to one thread at a time, and nothing that is handed on depends on which.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::prelude::*;

use crate::engine::output::{Command, Counts, Decision, Outputs};
use crate::event::decode::{Decoder, Dropped};
use crate::event::{Event, KnownType, Timestamp};

use super::input::{self, Block, InputError, Line, Piece, Recorded};
use super::stream::{Home, Placed, Placing};
use super::{BadLine, Side, Totals};

/// Blocks that are worked on at once, for each thread; as many may wait.
const BLOCKS: usize = 8;

/// Blocks that are parsed while as many before them are judged.
const CHUNK: usize = 2;

/// What a rule set said of one event, and of timers that fell due before it.
#[derive(Debug)]
pub struct Said {
    /// Index of the rule set.
    pub side: usize,
    pub now: Timestamp,
    pub decisions: Vec<Decision>,
    pub commands: Vec<Command>,
    pub mails: usize,
    order: (usize, usize, i32),
}

/// An owner's answer in the stream; nobody has checked its MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub now: Timestamp,
    pub account: Option<String>,
    pub case: String,
    pub answer: String,
    /// The recipient's part.
    pub by: String,
}

/// What comes of a replay, in the order of the stream.
#[derive(Debug)]
pub enum Happening {
    Said(Said),
    Answer(Answer),
    /// A line that is no event.
    Bad(BadLine),
}

/// Why a replay ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    #[error("threads cannot be started: {0}")]
    Threads(String),
}

/// Replays `files` under every one of `sides`. `read` counts the bytes that were read. `each`
/// is handed what happened, and after some of it `None`: a good moment to show progress.
///
/// # Errors
/// Where a file cannot be read to its end (what came before it was handed on), or `each`
/// refuses.
pub fn run(
    files: &[PathBuf],
    sides: &mut [Side],
    placing: &mut Placing,
    (partitions, threads): (u32, usize),
    read: &Arc<AtomicU64>,
    each: &mut dyn FnMut(Option<Happening>) -> io::Result<()>,
) -> Result<Totals, ReplayError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|at| format!("replay-{at}"))
        .build()
        .map_err(|error| ReplayError::Threads(error.to_string()))?;
    let blocks = BLOCKS * pool.current_num_threads();
    let (to, from) = sync_channel(blocks);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            // Nobody listens any more where the output is gone.
            input::read_all(files, read, |piece| to.send(piece).is_ok())
        });
        let mut batch = Batch {
            files,
            partitions,
            sides,
            placing,
            totals: Totals::default(),
        };
        // Of the sides' own, since those are at work while the next blocks are parsed.
        let decoders: Vec<Decoder> = batch.sides.iter().map(Side::new_decoder).collect();
        let mut result = Ok(());
        while let Some(pieces) = next(&from, blocks) {
            result = pool
                .install(|| batch.work(&pieces, &decoders))
                .into_iter()
                .try_for_each(|happening| each(Some(happening)));
            result = result.and_then(|()| each(None));
            if result.is_err() {
                break;
            }
        }
        drop(from);
        let read = reader.join();
        result?;
        match read {
            Ok(read) => read?,
            Err(_) => return Err(ReplayError::Threads("the reader ended early".into())),
        }
        Ok(batch.totals)
    })
}

/// Waits for a piece, and takes what else is there.
fn next(from: &Receiver<Piece>, at_most: usize) -> Option<Vec<Piece>> {
    let mut pieces = vec![from.recv().ok()?];
    pieces.extend(from.try_iter().take(at_most - 1));
    Some(pieces)
}

struct Batch<'r> {
    files: &'r [PathBuf],
    partitions: u32,
    sides: &'r mut [Side],
    placing: &'r mut Placing,
    totals: Totals,
}

/// The lines of one block, or of none where one was too long.
struct Parsed<'b> {
    file: usize,
    items: Vec<Item>,
    /// The event of each item, for each rule set: they may look at different fields.
    events: Vec<Vec<Event<'b>>>,
    bad: Vec<(u64, String)>,
    dropped: BTreeMap<&'static str, u64>,
}

struct Item {
    line: u64,
    recorded: Option<Recorded>,
    home: Home,
}

/// An event on its way to a partition.
#[derive(Clone, Copy)]
struct Step {
    order: usize,
    block: usize,
    item: usize,
    placed: Placed,
}

impl Batch<'_> {
    fn work(&mut self, pieces: &[Piece], decoders: &[Decoder]) -> Vec<Happening> {
        let partitions = self.partitions;
        let parse = |pieces| parse_all(pieces, decoders, partitions);
        let mut chunks = pieces.chunks(CHUNK);
        let mut parsed = chunks.next().map(parse);
        let mut happened = Vec::new();
        while let Some(chunk) = parsed.take() {
            let ahead = chunks.next();
            let (next, ()) =
                rayon::join(|| ahead.map(parse), || self.look_at(chunk, &mut happened));
            parsed = next;
        }
        happened
    }

    fn look_at(&mut self, parsed: Vec<Parsed<'_>>, into: &mut Vec<Happening>) {
        let mut happened: Vec<((usize, usize, i32), Happening)> = Vec::new();
        let steps = self.place(&parsed, &mut happened);
        for said in self.judge(&parsed, &steps) {
            happened.push((said.order, Happening::Said(said)));
        }
        parsed.into_par_iter().for_each(drop);
        happened.sort_by_key(|(order, _)| *order);
        into.extend(happened.into_iter().map(|(_, happening)| happening));
    }

    /// Runs over the events in the order of the stream.
    fn place(
        &mut self,
        parsed: &[Parsed<'_>],
        happened: &mut Vec<((usize, usize, i32), Happening)>,
    ) -> BTreeMap<i32, Vec<Step>> {
        let mut steps: BTreeMap<i32, Vec<Step>> = BTreeMap::new();
        let mut everywhere = Vec::new();
        let mut order = 0;
        for (block, parsed) in parsed.iter().enumerate() {
            for (field, count) in &parsed.dropped {
                *self.totals.dropped.entry(field).or_default() += count;
            }
            let mut bad = parsed.bad.iter().peekable();
            for (item, known) in parsed.items.iter().enumerate() {
                while let Some((line, reason)) = bad.next_if(|(line, _)| *line < known.line) {
                    happened.push(self.refuse(&mut order, parsed.file, *line, reason));
                }
                let event = &parsed.events[0][item];
                let at = (parsed.file, known.line);
                let placed = self
                    .placing
                    .place(known.recorded, event.time, known.home, at);
                let step = Step {
                    order,
                    block,
                    item,
                    placed,
                };
                match placed.home {
                    Home::Partition(partition) => steps.entry(partition).or_default().push(step),
                    Home::Everywhere => everywhere.push(step),
                }
                if let Some(answer) = answer(event, placed.now) {
                    // It is heard after what the event itself caused.
                    let order = (order, usize::MAX, i32::MAX);
                    happened.push((order, Happening::Answer(answer)));
                }
                order += 1;
            }
            for (line, reason) in bad {
                happened.push(self.refuse(&mut order, parsed.file, *line, reason));
            }
        }
        for partition in steps.keys() {
            for side in &mut *self.sides {
                side.lanes.entry(*partition).or_default();
            }
        }
        if !everywhere.is_empty() {
            for partition in self.sides.iter().flat_map(|side| side.lanes.keys()) {
                let steps = steps.entry(*partition).or_default();
                if !steps
                    .iter()
                    .any(|step| step.placed.home == Home::Everywhere)
                {
                    steps.extend(&everywhere);
                    steps.sort_by_key(|step| step.order);
                }
            }
        }
        steps
    }

    fn refuse(
        &mut self,
        order: &mut usize,
        file: usize,
        line: u64,
        reason: &str,
    ) -> ((usize, usize, i32), Happening) {
        self.totals.bad += 1;
        let bad = BadLine {
            file: self.files[file].display().to_string(),
            line,
            reason: reason.to_owned(),
        };
        let at = (*order, 0, -1);
        *order += 1;
        (at, Happening::Bad(bad))
    }

    fn judge(&mut self, parsed: &[Parsed<'_>], steps: &BTreeMap<i32, Vec<Step>>) -> Vec<Said> {
        let judged: Vec<(usize, Vec<Said>, Counts64)> = self
            .sides
            .par_iter_mut()
            .enumerate()
            .flat_map(|(at, side)| {
                let (engine, decoder) = (&side.engine, &side.decoder);
                side.lanes
                    .par_iter_mut()
                    .filter_map(move |(partition, lane)| {
                        let steps = steps.get(partition)?;
                        let mut out = Outputs::default();
                        let mut said = Vec::new();
                        let mut counts = Counts64::default();
                        for step in steps {
                            let event = &parsed[step.block].events[at][step.item];
                            lane.handle(
                                engine,
                                decoder,
                                (*partition, step.placed),
                                event,
                                &mut out,
                                |engine, accounts, event, source, now, out| {
                                    engine.handle(accounts, event, source, now, out);
                                },
                            );
                            counts.add(&out.counts);
                            let silent = out.decisions.is_empty()
                                && out.commands.is_empty()
                                && out.mails.is_empty();
                            if !silent {
                                said.push(Said {
                                    side: at,
                                    now: step.placed.now,
                                    decisions: std::mem::take(&mut out.decisions),
                                    commands: std::mem::take(&mut out.commands),
                                    mails: out.mails.len(),
                                    order: (step.order, at, *partition),
                                });
                            }
                            out.clear();
                        }
                        Some((at, said, counts))
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        let mut all = Vec::new();
        for (side, said, counts) in judged {
            self.sides[side].counts.merge(&counts);
            all.extend(said);
        }
        all
    }
}

fn parse_all<'b>(pieces: &'b [Piece], decoders: &[Decoder], partitions: u32) -> Vec<Parsed<'b>> {
    let parsed = pieces.par_iter().map(|piece| match piece {
        Piece::Lines(block) => parse(block, decoders, partitions),
        Piece::TooLong { file, line } => Parsed::too_long(*file, *line, decoders.len()),
    });
    parsed.collect()
}

impl Parsed<'_> {
    fn too_long(file: usize, line: u64, sides: usize) -> Self {
        Parsed {
            file,
            items: Vec::new(),
            events: vec![Vec::new(); sides],
            bad: vec![(
                line,
                "the line is longer than 10 MiB: is this NDJSON, one event a line?".to_owned(),
            )],
            dropped: BTreeMap::new(),
        }
    }
}

fn parse<'b>(block: &'b Block, decoders: &[Decoder], partitions: u32) -> Parsed<'b> {
    let lines = memchr::memchr_iter(b'\n', &block.bytes).count() + 1;
    let mut parsed = Parsed {
        file: block.file,
        items: Vec::with_capacity(lines),
        events: decoders.iter().map(|_| Vec::with_capacity(lines)).collect(),
        bad: Vec::new(),
        dropped: BTreeMap::new(),
    };
    let mut dropped = Dropped::new();
    for (at, text) in input::lines(&block.bytes) {
        let line = block.first_line + at;
        match one(text, decoders, partitions, &mut parsed.events, &mut dropped) {
            Ok((recorded, home)) => {
                for field in &dropped {
                    *parsed.dropped.entry(field).or_default() += 1;
                }
                parsed.items.push(Item {
                    line,
                    recorded,
                    home,
                });
            }
            Err(reason) => parsed.bad.push((line, reason)),
        }
    }
    parsed
}

/// Decodes one line for every rule set.
fn one<'b>(
    text: &'b [u8],
    decoders: &[Decoder],
    partitions: u32,
    events: &mut [Vec<Event<'b>>],
    dropped: &mut Dropped,
) -> Result<(Option<Recorded>, Home), String> {
    let line = Line::parse(text)?;
    let mut home = Home::Everywhere;
    for (at, decoder) in decoders.iter().enumerate() {
        match decoder.decode(line.event, dropped) {
            Ok(event) => {
                if at == 0 {
                    home = Home::of(&event, partitions);
                }
                events[at].push(event);
            }
            Err(rejected) => {
                // The others stay in step.
                for events in &mut events[..at] {
                    events.pop();
                }
                return Err(rejected.reason);
            }
        }
    }
    Ok((line.recorded, home))
}

fn answer(event: &Event<'_>, now: Timestamp) -> Option<Answer> {
    if event.kind.known() != Some(KnownType::CaseResponse) {
        return None;
    }
    let control = event.control.as_deref()?;
    Some(Answer {
        now,
        account: event.account.as_deref().map(str::to_owned),
        case: event.case.as_deref()?.to_owned(),
        answer: control.verb.as_deref()?.to_owned(),
        by: control.by.as_deref().unwrap_or("").to_owned(),
    })
}

/// [`Counts`] over a whole replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts64 {
    pub late: u64,
    pub duplicate: u64,
    pub id_conflict: u64,
    pub unkeyed: u64,
    pub future: u64,
    pub country_unknown: u64,
    pub window_full: u64,
    pub evicted: u64,
    pub answers_applied: u64,
    pub geo_found: u64,
    pub geo_not_found: u64,
    pub geo_special: u64,
    pub geo_failed: u64,
    pub geo_no_database: u64,
}

macro_rules! each_count {
    ($($name:ident),+ $(,)?) => {
        impl Counts64 {
            fn add(&mut self, counts: &Counts) {
                $(self.$name += u64::from(counts.$name);)+
            }

            fn merge(&mut self, other: &Counts64) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

each_count!(
    late,
    duplicate,
    id_conflict,
    unkeyed,
    future,
    country_unknown,
    window_full,
    evicted,
    answers_applied,
    geo_found,
    geo_not_found,
    geo_special,
    geo_failed,
    geo_no_database,
);
