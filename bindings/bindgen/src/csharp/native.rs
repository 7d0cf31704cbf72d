//! Declarations of the functions that the library exports, and the check that it is the right library.

use uniffi_bindgen::interface::FfiFunction;

use super::{callbacks::Trait, code::Code, config::Config, types::Types};

/// The class with every imported function that generated code calls.
pub(super) fn class(code: &mut Code, types: Types<'_>, config: &Config) {
    let ci = types.ci();
    code.gap();
    code.line("/// <summary>Functions of the native library.</summary>");
    code.open("internal static class Native");
    code.line(format!("internal const string Name = \"{}\";", config.cdylib_name));
    import(code, types, &ci.ffi_rustbuffer_alloc(), Some("BufferAllocate"));
    import(code, types, &ci.ffi_rustbuffer_free(), Some("BufferFree"));
    import(code, types, &ci.ffi_uniffi_contract_version(), Some("ContractVersion"));
    for function in ci.iter_user_ffi_function_definitions() {
        import(code, types, function, None);
    }
    for function in ci.iter_checksum_ffi_functions() {
        import(code, types, &function, None);
    }
    code.close();
}

/// What the check compares, and what it registers when the library is the right one.
pub(super) fn expectations(code: &mut Code, types: Types<'_>, traits: &[Trait<'_>]) {
    let ci = types.ci();
    code.gap();
    code.open("internal static partial class Library");
    code.line(format!("private const uint ExpectedContract = {};", ci.uniffi_contract_version()));
    code.gap();
    code.line("/// <summary>The first function whose signature is not the one this code was generated for.</summary>");
    code.open("private static string FirstChange()");
    for (function, checksum) in ci.iter_checksums() {
        code.open(format!("if (Native.{function}() != {checksum})"));
        code.line(format!(
            "return \"{}\";",
            function.replacen("_checksum_", " ", 1).trim_start_matches("uniffi_")
        ));
        code.close();
    }
    code.line("return null;");
    code.close();
    code.gap();
    code.open("private static void RegisterCallbacks()");
    for definition in traits {
        code.line(format!("{}Table.Register();", super::names::upper(definition.name)));
    }
    code.close();
    code.close();
}

fn import(code: &mut Code, types: Types<'_>, function: &FfiFunction, name: Option<&str>) {
    let mut parameters: Vec<String> = function
        .arguments()
        .iter()
        .enumerate()
        .map(|(index, argument)| format!("{} argument{index}", types.ffi(&argument.type_())))
        .collect();
    if function.has_rust_call_status_arg() {
        parameters.push("ref RustCallStatus status".to_owned());
    }
    let result = function.return_type().map_or_else(|| "void".to_owned(), |ty| types.ffi(ty));
    code.gap();
    code.line(format!(
        "[DllImport(Name, EntryPoint = \"{}\", CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]",
        function.name()
    ));
    let name = name.unwrap_or_else(|| function.name());
    code.line(format!("internal static extern {result} {name}({});", parameters.join(", ")));
}
