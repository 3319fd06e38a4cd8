#![no_main]

hullwright_fuzz::target!("vhd_footer");
