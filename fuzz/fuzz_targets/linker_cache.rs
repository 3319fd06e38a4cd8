#![no_main]

hullwright_fuzz::target!("linker_cache");
