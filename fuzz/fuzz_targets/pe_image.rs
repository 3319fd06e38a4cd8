#![no_main]

hullwright_fuzz::target!("pe_image");
