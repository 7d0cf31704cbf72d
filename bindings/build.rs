//! How the library for Android is linked. The linker is lld, the only one in Google's NDK.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("android") {
        return;
    }
    for option in [
        // Devices since Android 15 may have pages of 16 KiB. The NDK's linker aligns for them by itself only since r28.
        "-z,max-page-size=16384",
        // Relocations in a tenth of the space. Android reads that format since API 23; the library needs 26.
        "--pack-dyn-relocs=android",
        // Functions of the same code, as generics make them, are there once. Nothing compares their addresses.
        "--icf=all",
    ] {
        println!("cargo::rustc-link-arg-cdylib=-Wl,{option}");
    }
}
