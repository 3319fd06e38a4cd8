#![no_main]

hullwright_fuzz::target!("efi_signatures");
