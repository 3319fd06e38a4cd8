//! Small ELF files for tests: 64-bit, little endian, x86-64.

/// A library or program without code.
#[derive(Debug, Clone, Copy, Default)]
pub struct Object<'a> {
    pub soname: Option<&'a str>,
    pub needed: &'a [&'a str],
    pub rpath: Option<&'a str>,
    pub runpath: Option<&'a str>,
    pub interpreter: Option<&'a str>,
    /// JSON of a dlopen note.
    pub dlopen: Option<&'a str>,
    /// The ISA bits of a GNU property note.
    pub isa: Option<u32>,
}

fn header(kind: u16, phnum: u16, shoff: u64, shnum: u16) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    out.extend(kind.to_le_bytes());
    out.extend(62_u16.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    for word in [0_u64, if phnum > 0 { 64 } else { 0 }, shoff] {
        out.extend(word.to_le_bytes());
    }
    out.extend(0_u32.to_le_bytes());
    for half in [64, 56, phnum, 64, shnum, shnum.saturating_sub(1)] {
        out.extend(half.to_le_bytes());
    }
    out
}

fn note(kind: u32, owner: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [4, u32::try_from(content.len()).unwrap(), kind] {
        out.extend(word.to_le_bytes());
    }
    out.extend(owner);
    out.extend(content);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

impl Object<'_> {
    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut entries: Vec<(u64, u64)> = Vec::new();
        let named = self.needed.iter().map(|name| (1, *name));
        let named = named.chain(self.soname.map(|name| (14, name)));
        let named = named.chain(self.rpath.map(|name| (15, name)));
        for (tag, text) in named.chain(self.runpath.map(|name| (29, name))) {
            entries.push((tag, strings.len() as u64));
            strings.extend(text.as_bytes());
            strings.push(0);
        }
        let count = 6;
        let mut body = Vec::new();
        let start = 64 + 56 * count;
        let mut place = |bytes: &[u8]| {
            body.resize(body.len().next_multiple_of(8), 0);
            let at = (start + body.len()) as u64;
            body.extend(bytes);
            (at, bytes.len() as u64)
        };
        let (strtab, _) = place(&strings);
        entries.push((5, strtab));
        entries.push((0, 0));
        let dynamic: Vec<u8> = entries
            .iter()
            .flat_map(|(tag, value)| [*tag, *value])
            .flat_map(u64::to_le_bytes)
            .collect();
        let mut segments = vec![(2_u32, place(&dynamic), 8_u64)];
        if let Some(path) = self.interpreter {
            segments.push((3, place(format!("{path}\0").as_bytes()), 1));
        }
        if let Some(json) = self.dlopen {
            let text = format!("{json}\0");
            segments.push((4, place(&note(0x407c_0c0a, b"FDO\0", text.as_bytes())), 4));
        }
        if let Some(bits) = self.isa {
            let words = [0xc000_8002_u32, 4, bits, 0];
            let property: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
            segments.push((0x6474_e553, place(&note(5, b"GNU\0", &property)), 8));
        }
        let size = (start + body.len()) as u64;
        segments.push((1, (0, size), 4096));
        segments.resize(count, (0, (0, 0), 0));
        let mut out = header(3, u16::try_from(count).unwrap(), 0, 0);
        for (kind, (offset, size), align) in segments {
            out.extend(kind.to_le_bytes());
            out.extend(4_u32.to_le_bytes());
            for word in [offset, offset, offset, size, size, align] {
                out.extend(word.to_le_bytes());
            }
        }
        out.extend(body);
        out
    }
}

/// A kernel module with these `.modinfo` strings, exported symbols (CRC 7) and undefined symbols.
pub fn module(info: &[&str], exports: &[&str], needs: &[&str]) -> Vec<u8> {
    let modinfo: Vec<u8> = info
        .iter()
        .flat_map(|text| format!("{text}\0").into_bytes())
        .collect();
    let mut names = vec![0];
    let mut symbols = vec![0; 24];
    let mut symbol = |name: String, section: u16, value: u64| {
        symbols.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
        symbols.extend([0x10, 0]);
        symbols.extend(section.to_le_bytes());
        symbols.extend(value.to_le_bytes());
        symbols.extend(0_u64.to_le_bytes());
        names.extend(name.into_bytes());
        names.push(0);
    };
    for name in needs {
        symbol((*name).to_owned(), 0, 0);
    }
    for name in exports {
        symbol(format!("__crc_{name}"), 0xfff1, 7);
    }
    let titles = b"\0.modinfo\0.symtab\0.strtab\0.shstrtab\0";
    let sections: [(u32, u32, &[u8]); 5] = [
        (0, 0, b""),
        (1, 1, &modinfo),
        (10, 2, &symbols),
        (18, 3, &names),
        (26, 3, titles),
    ];
    let mut body = Vec::new();
    let mut table = Vec::new();
    for (name, kind, bytes) in sections {
        body.resize(body.len().next_multiple_of(8), 0);
        let offset = if kind == 0 { 0 } else { 64 + body.len() as u64 };
        let link = if kind == 2 { 3_u32 } else { 0 };
        table.extend([name, kind].into_iter().flat_map(u32::to_le_bytes));
        table.extend(
            [0, 0, offset, bytes.len() as u64]
                .into_iter()
                .flat_map(u64::to_le_bytes),
        );
        table.extend([link, 1].into_iter().flat_map(u32::to_le_bytes));
        table.extend(
            [8_u64, if kind == 2 { 24 } else { 0 }]
                .into_iter()
                .flat_map(u64::to_le_bytes),
        );
        body.extend(bytes);
    }
    body.resize(body.len().next_multiple_of(8), 0);
    let mut out = header(1, 0, 64 + body.len() as u64, 5);
    out.extend(body);
    out.extend(table);
    out
}
