#![no_main]

hullwright_fuzz::target!("elf_file");
