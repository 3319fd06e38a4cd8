#![no_main]

hullwright_fuzz::target!("module_index");
