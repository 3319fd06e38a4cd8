#![no_main]

hullwright_fuzz::target!("repository");
