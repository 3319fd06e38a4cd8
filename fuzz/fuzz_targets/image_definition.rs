#![no_main]

hullwright_fuzz::target!("image_definition");
