//! Whether files are as they were.
//!
//! Only what the system says of a file is looked at, through all symbolic links: which one it
//! is, its size and its times. So a folder that is swapped by a link (as Kubernetes does it),
//! an editor's rename over the old file, and a file written in its place all show. The
//! content decides later whether something is new.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Sources;

/// Files of a folder that are looked at, at most.
const MAX_FILES: usize = 10_000;

/// What the system said of all files at one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    files: Vec<(PathBuf, Option<Mark>)>,
}

/// What tells one state of a file from another; without it, there is none that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Of the inode: it moves, too, where a copy keeps the time of its original.
    changed: (i64, i64),
}

/// Looks at the folders of rules and translations, the databases, and the files that were
/// `read`.
pub fn look(sources: &Sources, read: &[PathBuf]) -> Snapshot {
    let mut paths: Vec<PathBuf> = read.to_vec();
    paths.extend(sources.geoip.paths().map(Path::to_owned));
    let folders = [
        (sources.rules_dir.as_deref(), "yaml"),
        (sources.languages.folder(), "toml"),
    ];
    for (dir, ending) in folders {
        let Some(dir) = dir else { continue };
        paths.push(dir.to_owned());
        // What cannot be listed now shows at the folder itself.
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let written = entries.map(|entry| entry.path()).filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == ending)
        });
        paths.extend(written.take(MAX_FILES));
    }
    paths.sort();
    paths.dedup();
    let marks = paths.iter().map(|path| mark(path)).collect::<Vec<_>>();
    Snapshot {
        files: paths.into_iter().zip(marks).collect(),
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let found = fs::metadata(path).ok()?;
    if found.is_dir() {
        // Its time moves with every file in it, however little that one matters.
        return Some(Mark {
            device: found.dev(),
            inode: found.ino(),
            size: 0,
            modified: (0, 0),
            changed: (0, 0),
        });
    }
    Some(Mark {
        device: found.dev(),
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}
