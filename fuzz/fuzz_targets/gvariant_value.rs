#![no_main]

hullwright_fuzz::target!("gvariant_value");
