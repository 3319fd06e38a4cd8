#![no_main]

hullwright_fuzz::target!("static_delta");
