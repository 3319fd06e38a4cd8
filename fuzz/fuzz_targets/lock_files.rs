#![no_main]

hullwright_fuzz::target!("lock_files");
