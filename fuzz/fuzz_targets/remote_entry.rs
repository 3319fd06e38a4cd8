#![no_main]

hullwright_fuzz::target!("remote_entry");
