#![no_main]

hullwright_fuzz::target!("erofs_volume");
