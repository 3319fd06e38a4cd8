//! Values of a header by their types.

use super::{Entry, Header, HeaderError, be32};
use crate::formats::rpm::tag;

impl Header {
    fn typed(&self, tag: u32, kinds: &[u32], wanted: &'static str) -> Result<Option<&Entry>, HeaderError> {
        let Some(entry) = self.entry(tag) else {
            return Ok(None);
        };
        if kinds.contains(&entry.kind) {
            return Ok(Some(entry));
        }
        Err(HeaderError::Type {
            tag,
            name: tag::name(tag).unwrap_or("?"),
            found: entry.kind,
            wanted,
        })
    }

    /// A string, or the first (the untranslated) of a translated one.
    ///
    /// # Errors
    /// Where the tag is of another type.
    pub fn string(&self, tag: u32) -> Result<Option<&[u8]>, HeaderError> {
        let entry = self.typed(tag, &[6, 9, 8], "a string")?;
        Ok(entry.and_then(|entry| self.split(entry).next()))
    }

    /// A string array; empty where the tag is absent.
    ///
    /// # Errors
    /// Where the tag is of another type.
    pub fn strings(&self, tag: u32) -> Result<Vec<&[u8]>, HeaderError> {
        let entry = self.typed(tag, &[8, 9, 6], "a string array")?;
        Ok(entry.map(|entry| self.split(entry).collect()).unwrap_or_default())
    }

    fn split<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a [u8]> {
        self.raw[entry.range.clone()].split(|&b| b == 0).take(entry.count)
    }

    /// 16-bit integers; empty where the tag is absent.
    ///
    /// # Errors
    /// Where the tag is of another type.
    pub fn u16s(&self, tag: u32) -> Result<Vec<u16>, HeaderError> {
        let entry = self.typed(tag, &[3], "16-bit integers")?;
        let chunks = entry
            .map_or(&[][..], |entry| &self.raw[entry.range.clone()])
            .chunks_exact(2);
        Ok(chunks.map(|c| u16::from_be_bytes([c[0], c[1]])).collect())
    }

    /// 32-bit integers; empty where the tag is absent.
    ///
    /// # Errors
    /// Where the tag is of another type.
    pub fn u32s(&self, tag: u32) -> Result<Vec<u32>, HeaderError> {
        let entry = self.typed(tag, &[4], "32-bit integers")?;
        let chunks = entry
            .map_or(&[][..], |entry| &self.raw[entry.range.clone()])
            .chunks_exact(4);
        Ok(chunks.map(|c| be32(c, 0)).collect())
    }

    /// 64-bit integers; empty where the tag is absent.
    ///
    /// # Errors
    /// Where the tag is of another type.
    pub fn u64s(&self, tag: u32) -> Result<Vec<u64>, HeaderError> {
        let entry = self.typed(tag, &[5], "64-bit integers")?;
        let chunks = entry
            .map_or(&[][..], |entry| &self.raw[entry.range.clone()])
            .chunks_exact(8);
        Ok(chunks
            .map(|c| u64::from(be32(c, 0)) << 32 | u64::from(be32(c, 4)))
            .collect())
    }

    /// The first of 32-bit integers.
    ///
    /// # Errors
    /// Where the tag is of another type.
    pub fn u32(&self, tag: u32) -> Result<Option<u32>, HeaderError> {
        Ok(self.u32s(tag)?.first().copied())
    }

    /// Binary data.
    ///
    /// # Errors
    /// Where the tag is of another type.
    pub fn binary(&self, tag: u32) -> Result<Option<&[u8]>, HeaderError> {
        let entry = self.typed(tag, &[7], "binary data")?;
        Ok(entry.map(|entry| &self.raw[entry.range.clone()]))
    }
}
