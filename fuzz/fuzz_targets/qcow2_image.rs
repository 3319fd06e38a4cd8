#![no_main]

hullwright_fuzz::target!("qcow2_image");
