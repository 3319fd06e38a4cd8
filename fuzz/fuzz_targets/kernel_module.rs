#![no_main]

hullwright_fuzz::target!("kernel_module");
