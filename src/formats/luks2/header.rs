//! Reading a header: two copies, of which one may be damaged or out of date.

use std::io;

use uuid::Uuid;

use super::super::at::ReadAt;
use super::binary::{self, BINARY_SIZE, Fields, HEADER_SIZES, Which};
use super::error::Luks2Error;
use super::metadata::Metadata;
use super::{check, json, parse};

/// What a volume says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    pub uuid: Uuid,
    /// Empty if there is none.
    pub label: String,
    /// Empty if there is none.
    pub subsystem: String,
    /// Counts changes of the header; `luksDump` calls it the epoch.
    pub sequence: u64,
    /// Bytes of one copy, JSON included.
    pub header_size: u64,
    pub metadata: Metadata,
    /// State of the first and of the second copy.
    pub copies: [CopyState; 2],
    /// Length of the volume that this was read from or written for, in bytes.
    pub volume_size: u64,
}

/// What became of a copy of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyState {
    /// Intact, and says what [`Header`] says.
    Good,
    /// Intact, and older than the other one.
    Outdated { sequence: u64 },
    /// Intact and as new as the first, and says something else: no program writes it so.
    Different,
    /// Why it cannot be used.
    Damaged(String),
}

/// One intact copy.
struct Copy {
    fields: Fields,
    size: u64,
    json: Vec<u8>,
}

impl Header {
    /// Reads the header of the volume of `size` bytes in `volume`.
    ///
    /// A copy is intact if its checksum is right; of two intact ones the newer counts, and the first if they are as
    /// new, as cryptsetup does it. That copy's metadata must then be acceptable: what is refused is not made good by
    /// the other copy.
    ///
    /// # Errors
    /// No copy is intact; the metadata holds anything unknown or contradictory (a cipher other than `aes-xts-plain64`,
    /// areas that overlap, a key that occurs twice …); I/O.
    pub fn read(volume: &impl ReadAt, size: u64) -> Result<Self, Luks2Error> {
        let first = read_copy(volume, size, Which::First, 0)?;
        let second = match &first {
            Ok(first) => read_copy(volume, size, Which::Second, first.size)?,
            Err(_) => find_second(volume, size)?,
        };
        let states = states(&first, &second);
        let used = match (first, second) {
            (Ok(first), _) if states[0] == CopyState::Good => first,
            (_, Ok(second)) => second,
            (Ok(first), _) => first,
            (Err(first), Err(second)) => return Err(Luks2Error::NoHeader { first, second }),
        };
        let uuid = Uuid::parse_str(&used.fields.uuid)
            .map_err(|_| Luks2Error::metadata("it", format!("has {:?} for a UUID", used.fields.uuid)))?;
        let metadata = parse::metadata(&json::parse(json_text(&used.json)?)?)?;
        check::check(&metadata, used.size, size)?;
        Ok(Self {
            uuid,
            label: used.fields.label,
            subsystem: used.fields.subsystem,
            sequence: used.fields.sequence,
            header_size: used.size,
            metadata,
            copies: states,
            volume_size: size,
        })
    }
}

fn states(first: &Result<Copy, String>, second: &Result<Copy, String>) -> [CopyState; 2] {
    let damaged = |why: &String| CopyState::Damaged(why.clone());
    match (first, second) {
        (Ok(first), Ok(second)) => {
            let sequences = [first.fields.sequence, second.fields.sequence];
            let [old, new] = sequences;
            if old < new {
                [CopyState::Outdated { sequence: old }, CopyState::Good]
            } else if old > new {
                [CopyState::Good, CopyState::Outdated { sequence: new }]
            } else if first.says_the_same(second) {
                [CopyState::Good, CopyState::Good]
            } else {
                [CopyState::Good, CopyState::Different]
            }
        }
        (first, second) => [first, second].map(|copy| copy.as_ref().err().map_or(CopyState::Good, damaged)),
    }
}

impl Copy {
    /// Salts differ between copies so that no checksum is that of both; all else is equal.
    fn says_the_same(&self, other: &Self) -> bool {
        let mut fields = other.fields.clone();
        fields.salt = self.fields.salt;
        self.fields == fields && self.json == other.json
    }
}

/// The second copy, wherever a first one of any size would have put it.
fn find_second(volume: &impl ReadAt, size: u64) -> io::Result<Result<Copy, String>> {
    let mut reason = None;
    for offset in HEADER_SIZES {
        match read_copy(volume, size, Which::Second, offset)? {
            Ok(copy) => return Ok(Ok(copy)),
            Err(why) => reason = reason.or((why != NOT_THERE).then_some(why)),
        }
    }
    Ok(Err(reason.unwrap_or_else(|| NOT_THERE.to_owned())))
}

const NOT_THERE: &str = "is not there";

fn read_copy(
    volume: &impl ReadAt,
    volume_size: u64,
    which: Which,
    offset: u64,
) -> io::Result<Result<Copy, String>> {
    let fits = |size: u64| offset.checked_add(size).is_some_and(|end| end <= volume_size);
    if !fits(BINARY_SIZE) {
        return Ok(Err(NOT_THERE.to_owned()));
    }
    let mut binary = [0; BINARY_SIZE as usize];
    volume.read_exact_at(&mut binary, offset)?;
    let size = match binary::size(which, offset, &binary) {
        Ok(size) if fits(size) => size,
        Ok(_) => return Ok(Err("is cut off by the volume's end".to_owned())),
        Err(why) => return Ok(Err(why)),
    };
    // At most 4 MiB: `binary::size` accepts no more.
    let mut bytes = vec![0; size as usize];
    volume.read_exact_at(&mut bytes, offset)?;
    Ok(binary::decode(&bytes).map(|(fields, json)| Copy {
        fields,
        size,
        json: json.to_vec(),
    }))
}

/// The JSON of its area: from the first byte on, then nothing but zeros.
fn json_text(area: &[u8]) -> Result<&[u8], Luks2Error> {
    let wrong = |why: &str| Err(Luks2Error::metadata("its JSON", why));
    let end = area.iter().position(|&byte| byte == 0);
    let Some((text, rest)) = end.map(|end| area.split_at(end)) else {
        return wrong("fills its area to the last byte, where a zero must be");
    };
    if !text.starts_with(b"{") {
        return wrong("does not begin with an object");
    }
    if rest.iter().any(|&byte| byte != 0) {
        return wrong("is followed by other bytes than zeros");
    }
    Ok(text)
}
