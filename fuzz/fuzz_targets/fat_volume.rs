#![no_main]

hullwright_fuzz::target!("fat_volume");
