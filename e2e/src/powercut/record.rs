//! The log that the shim writes.

/// Bytes of a record before its paths.
const HEAD: usize = 9 * 8;

/// What a process did, in the order in which it did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Where in the log it begins.
    pub at: u64,
    /// The number of its place.
    pub place: usize,
    /// What was done.
    pub event: Event,
}

/// What was done. Paths are from the folder; inodes tell files apart as long as they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The shim is there.
    Hello,
    /// An action was chosen for the operation that follows: its count at its place, and the action.
    Struck { nth: u64, action: u64 },
    /// A new file or folder.
    Create { inode: u64, path: String, mode: u32, folder: bool },
    /// Bytes.
    Write { inode: u64, offset: u64, data: Vec<u8> },
    /// Another length.
    Size { inode: u64, size: u64 },
    /// A sync begins, of everything if the inode is 0.
    Sync { number: u64, inode: u64 },
    /// It has ended.
    Synced { number: u64, done: bool },
    /// Another name.
    Rename { from: String, to: String },
    /// A name less.
    Unlink { path: String },
    /// A name more.
    Link { inode: u64, path: String },
    /// Something that cannot be followed.
    Strange { what: String },
}

/// Reads a log. What a kill has cut off at its end did not happen.
pub(super) fn parse(log: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut at = 0;
    while let Some(bytes) = whole(&log[at..]) {
        records.push(one(at as u64, bytes));
        at += bytes.len();
    }
    records
}

fn whole(log: &[u8]) -> Option<&[u8]> {
    let size = log.get(..8).map(|size| u64::from_ne_bytes(size.try_into().expect("eight bytes")))?;
    log.get(..size as usize)
}

fn one(at: u64, bytes: &[u8]) -> Record {
    let mut fields = bytes[..HEAD].chunks_exact(8);
    let mut field =
        || u64::from_ne_bytes(fields.next().expect("nine fields").try_into().expect("eight bytes"));
    let [_size, kind, place, _thread, inode, offset, number, path, other] = std::array::from_fn(|_| field());
    let (path, rest) = bytes[HEAD..].split_at(path as usize);
    let (other, data) = rest.split_at(other as usize);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let path = text(path);
    let event = match kind {
        0 | 7 => Event::Create { inode, path, mode: number as u32, folder: kind == 7 },
        1 => Event::Write { inode, offset, data: data.to_vec() },
        2 => Event::Size { inode, size: number },
        3 | 4 => Event::Sync { number, inode },
        5 => Event::Rename { from: path, to: text(other) },
        6 => Event::Unlink { path },
        8 => Event::Link { inode, path },
        10 => Event::Synced { number, done: offset == 1 },
        11 => Event::Hello,
        12 => Event::Struck { nth: offset, action: number },
        13 => Event::Strange { what: path },
        unknown => panic!("the shim writes records of a kind {unknown} that nobody knows"),
    };
    Record { at, place: place as usize, event }
}
