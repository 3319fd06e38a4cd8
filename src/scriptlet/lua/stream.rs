//! `rpm.open`: files, also compressed ones.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom, Write};

use mlua::prelude::{LuaError, LuaResult, LuaString, LuaUserData, LuaUserDataMethods};

/// An open file as RPM's scripts see it.
pub struct Stream {
    path: String,
    inner: Inner,
}

enum Inner {
    Plain(File),
    Reader(Box<dyn Read>),
    Writer(Box<dyn Finish>),
    Closed,
}

/// A compressor, which has an end to write.
trait Finish: Write {
    fn finish(self: Box<Self>) -> std::io::Result<()>;
}

impl Finish for flate2::write::GzEncoder<File> {
    fn finish(self: Box<Self>) -> std::io::Result<()> {
        flate2::write::GzEncoder::finish(*self).map(drop)
    }
}

impl Finish for bzip2::write::BzEncoder<File> {
    fn finish(self: Box<Self>) -> std::io::Result<()> {
        bzip2::write::BzEncoder::finish(*self).map(drop)
    }
}

impl Finish for liblzma::write::XzEncoder<File> {
    fn finish(self: Box<Self>) -> std::io::Result<()> {
        liblzma::write::XzEncoder::finish(*self).map(drop)
    }
}

impl Finish for zstd::stream::write::Encoder<'static, File> {
    fn finish(self: Box<Self>) -> std::io::Result<()> {
        zstd::stream::write::Encoder::finish(*self).map(drop)
    }
}

impl Stream {
    /// Opens `path` in `mode`: `[raw+x][0-9]*[.gzdio|.bzdio|.xzdio|.zstdio|.ufdio|.fdio]`.
    pub fn open(path: &str, mode: &str) -> LuaResult<Self> {
        let (flags, kind) = mode.split_once('.').unwrap_or((mode, "ufdio"));
        let mut options = OpenOptions::new();
        let plus = flags.contains('+');
        match flags.chars().next() {
            Some('w') => options.write(true).create(true).truncate(true).read(plus),
            Some('a') => options.append(true).create(true).read(plus),
            Some('r') => options.read(true).write(plus),
            _ => return Err(LuaError::runtime(format!("{path}: invalid mode {mode}"))),
        };
        if flags.contains('x') {
            options.create_new(true);
        }
        let failed =
            |error: std::io::Error| LuaError::runtime(format!("{path}: {}", super::errno(&error).desc()));
        let file = options.open(path).map_err(failed)?;
        let reads = flags.starts_with('r');
        let inner = match (kind, reads) {
            ("ufdio" | "fdio" | "fpio", _) => Inner::Plain(file),
            ("gzdio", true) => Inner::Reader(Box::new(flate2::read::MultiGzDecoder::new(file))),
            ("bzdio", true) => Inner::Reader(Box::new(bzip2::read::MultiBzDecoder::new(file))),
            ("xzdio" | "lzdio", true) => Inner::Reader(Box::new(liblzma::read::XzDecoder::new(file))),
            ("zstdio", true) => {
                let decoder = zstd::stream::read::Decoder::new(file).map_err(failed)?;
                Inner::Reader(Box::new(decoder))
            }
            ("gzdio", false) => {
                let level = flate2::Compression::default();
                Inner::Writer(Box::new(flate2::write::GzEncoder::new(file, level)))
            }
            ("bzdio", false) => Inner::Writer(Box::new(bzip2::write::BzEncoder::new(
                file,
                bzip2::Compression::best(),
            ))),
            ("xzdio", false) => Inner::Writer(Box::new(liblzma::write::XzEncoder::new(file, 6))),
            ("zstdio", false) => {
                let encoder = zstd::stream::write::Encoder::new(file, 3).map_err(failed)?;
                Inner::Writer(Box::new(encoder))
            }
            _ => return Err(LuaError::runtime(format!("{path}: unknown kind of file {kind}"))),
        };
        Ok(Self {
            path: path.to_owned(),
            inner,
        })
    }

    fn closed(&self) -> LuaError {
        LuaError::runtime(format!("{}: it is closed, or not open for this", self.path))
    }

    fn close(&mut self) -> std::io::Result<()> {
        match std::mem::replace(&mut self.inner, Inner::Closed) {
            Inner::Writer(writer) => writer.finish(),
            _ => Ok(()),
        }
    }
}

impl Drop for Stream {
    /// What a script forgets to close is whole all the same.
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl LuaUserData for Stream {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("read", |lua, this, length: Option<u64>| {
            let mut bytes = Vec::new();
            let length = length.unwrap_or(u64::MAX);
            let outcome = match &mut this.inner {
                Inner::Plain(file) => file.take(length).read_to_end(&mut bytes),
                Inner::Reader(reader) => reader.take(length).read_to_end(&mut bytes),
                _ => return Err(this.closed()),
            };
            outcome.map_err(LuaError::external)?;
            lua.create_string(bytes)
        });
        methods.add_method_mut("write", |_, this, (text, length): (LuaString, Option<usize>)| {
            let bytes = text.as_bytes();
            let bytes = &bytes[..length.unwrap_or(bytes.len()).min(bytes.len())];
            let outcome = match &mut this.inner {
                Inner::Plain(file) => file.write_all(bytes),
                Inner::Writer(writer) => writer.write_all(bytes),
                _ => return Err(this.closed()),
            };
            outcome.map_err(LuaError::external)?;
            Ok(bytes.len())
        });
        methods.add_method_mut("flush", |_, this, ()| {
            let outcome = match &mut this.inner {
                Inner::Writer(writer) => writer.flush(),
                _ => Ok(()),
            };
            Ok(if outcome.is_ok() { 0 } else { -1 })
        });
        methods.add_method_mut("seek", |_, this, (from, offset): (String, i64)| {
            let place = match from.as_str() {
                "set" => SeekFrom::Start(u64::try_from(offset).map_err(LuaError::external)?),
                "cur" => SeekFrom::Current(offset),
                "end" => SeekFrom::End(offset),
                _ => return Err(LuaError::runtime(format!("invalid option '{from}'"))),
            };
            match &mut this.inner {
                Inner::Plain(file) => file.seek(place).map_err(LuaError::external),
                _ => Err(this.closed()),
            }
        });
        methods.add_method_mut("reopen", |_, this, mode: String| {
            this.close().map_err(LuaError::external)?;
            Self::open(&this.path, &mode)
        });
        methods.add_method_mut("close", |_, this, ()| {
            Ok(if this.close().is_ok() { 0 } else { -1 })
        });
    }
}
