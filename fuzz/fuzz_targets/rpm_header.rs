#![no_main]

hullwright_fuzz::target!("rpm_header");
