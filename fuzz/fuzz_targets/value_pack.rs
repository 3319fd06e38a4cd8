#![no_main]

hullwright_fuzz::target!("value_pack");
