//! Files that are not what somebody hoped: each is an error with its place, or is counted.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{decisions, doorward, events, ndjson};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// What a replay of `path` says on stderr, and its status.
fn said(path: &Path) -> (Option<i32>, String) {
    let output = doorward(&["replay", path.to_str().unwrap()], b"");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), words)
}

#[test]
fn files_in_several_pieces_are_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let events = ndjson(&events("rba.ndjson"));
    // Cut in the middle of a line.
    let (first, second) = events.split_at(events.len() / 2);
    let members = [gzip(first), gzip(second)].concat();
    let frames = [
        zstd::encode_all(first, 1).unwrap(),
        zstd::encode_all(second, 1).unwrap(),
    ]
    .concat();
    let gz = write(folder.path(), "members.ndjson.gz", &members);
    let zst = write(folder.path(), "frames.ndjson.zst", &frames);
    for path in [gz, zst] {
        let output = doorward(&["replay", path.to_str().unwrap()], b"");
        assert_eq!(decisions(&output).len(), 1, "{}", path.display());
    }
    // What it is, is told by its bytes.
    assert_eq!(decisions(&doorward(&["replay", "-"], &members)).len(), 1);
    assert_eq!(decisions(&doorward(&["replay", "-"], &frames)).len(), 1);
}

#[test]
fn a_file_that_is_cut_off_is_named_after_what_could_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let events = ndjson(&events("rba.ndjson"));
    let whole = gzip(&events);
    let cut = write(folder.path(), "cut.ndjson.gz", &whole[..whole.len() - 40]);
    let (status, words) = said(&cut);
    assert_eq!(status, Some(2));
    assert!(words.contains("cut.ndjson.gz beyond line "), "{words}");
    assert!(words.contains("is the file complete?"), "{words}");

    let whole = zstd::encode_all(&*events, 1).unwrap();
    let cut = write(folder.path(), "cut.ndjson.zst", &whole[..whole.len() - 40]);
    let (status, words) = said(&cut);
    assert_eq!(status, Some(2));
    assert!(words.contains("cut.ndjson.zst beyond line "), "{words}");
    assert!(words.contains("is the file complete?"), "{words}");
}

#[test]
fn a_folder_and_a_file_under_a_false_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (status, words) = said(folder.path());
    assert_eq!(status, Some(2));
    assert!(
        words.contains("is a folder; name the files in it"),
        "{words}"
    );

    let plain = write(folder.path(), "plain.ndjson.gz", b"{}\n");
    let (status, words) = said(&plain);
    assert_eq!(status, Some(2));
    assert!(words.contains("does not begin as gzip does"), "{words}");

    // The second file is looked at before the first is replayed.
    let good = write(folder.path(), "good.ndjson", &ndjson(&events("rba.ndjson")));
    let args = ["replay", good.to_str().unwrap(), "no-such-file"];
    let output = doorward(&args, b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_line_without_an_end_and_bytes_of_any_kind_are_counted_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = ndjson(&events("rba.ndjson"));
    bytes.extend(std::iter::repeat_n(b'x', 100 * 1024 * 1024));
    bytes.extend_from_slice(b"\n\x00\xff\xfe\x80 binary\nhalf a {\n");
    bytes.extend_from_slice(br#"{"broker_time":"yesterday","event":{}}"#);
    let path = write(folder.path(), "long.ndjson", &bytes);
    let (status, words) = said(&path);
    assert_eq!(status, Some(0));
    assert!(words.contains("4 lines are no events:"), "{words}");
    assert!(
        words.contains("long.ndjson:20: the line is longer than 10 MiB"),
        "{words}"
    );
    assert!(words.contains("long.ndjson:21: not UTF-8"), "{words}");
    assert!(
        words.contains("long.ndjson:22: the message is not a JSON object"),
        "{words}"
    );
    assert!(
        words.contains("long.ndjson:23: an envelope needs `broker_time` in milliseconds"),
        "{words}"
    );
    let output = doorward(&["replay", path.to_str().unwrap()], b"");
    assert_eq!(decisions(&output).len(), 1);
}

#[test]
fn a_mark_of_byte_order_and_windows_line_ends_do_no_harm() {
    let text = String::from_utf8(ndjson(&events("rba.ndjson"))).unwrap();
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let output = doorward(&["replay", "--strict", "-"], windows.as_bytes());
    assert_eq!(decisions(&output).len(), 1);
}
