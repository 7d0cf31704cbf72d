//! Objects: a disposable class around a handle, and the functions that lend and take handles.

use uniffi_bindgen::interface::{Constructor, Method, Object};

use super::{
    calls::{self, Receiver},
    code::Code,
    docs, names,
    types::Types,
};
use crate::error::BindgenError;

/// The public class. `interface` is the one it implements, if it is Rust's side of a trait.
pub(super) fn class(
    code: &mut Code,
    types: Types<'_>,
    object: &Object,
    interface: Option<&str>,
) -> Result<(), BindgenError> {
    let class = names::upper(object.name());
    let handle = types.interop("RustHandle");
    code.gap();
    match interface {
        None => code.lines(docs::summary(object.docstring())),
        Some(interface) => code.line(format!(
            "/// <summary>An <see cref=\"{interface}\"/> that is implemented in Rust.</summary>"
        )),
    }
    let bases = interface.map(|interface| format!("{}, ", types.global(interface))).unwrap_or_default();
    code.open(format!("public sealed class {class} : {bases}global::System.IDisposable"));
    code.line(format!("internal readonly {handle} handle;"));
    code.gap();
    code.open(format!("internal {class}({handle} handle)"));
    code.line("this.handle = handle;");
    code.close();
    for constructor in object.constructors() {
        constructor_of(code, types, &class, constructor)?;
    }
    code.gap();
    code.line("/// <summary>Lets go of the Rust object. Safe while calls run on other threads, and safe twice.</summary>");
    code.open("public void Dispose()");
    code.line("this.handle.Dispose();");
    code.close();
    for method in object.methods() {
        method_of(code, types, &class, names::method(method.name(), &class), method)?;
    }
    if let Some(display) = object.uniffi_trait_methods().display_fmt {
        method_of(code, types, &class, "override ToString".to_owned(), &display)?;
    }
    code.close();
    Ok(())
}

/// The functions that move handles. `T` is the type that callers see: the class, or the interface of a trait.
pub(super) fn codec(code: &mut Code, types: Types<'_>, object: &Object) {
    let class = names::upper(object.name());
    let public = types.global(&class);
    code.gap();
    code.open(format!("internal sealed class {class}Codec : Converter<{public}>"));
    code.line(format!("internal static readonly {class}Codec Instance = new {class}Codec();"));
    handle_delegates(code, object);
    code.gap();
    code.open(format!("internal static ulong LowerHandle({public} value)"));
    code.line("RequireValue(value);");
    code.line("return value.handle.Clone();");
    code.close();
    code.gap();
    code.open(format!("internal static {public} LiftHandle(ulong handle)"));
    code.line(format!("return new {public}(Own(handle));"));
    code.close();
    code.gap();
    code.open("internal static void ReleaseHandle(ulong handle)");
    code.line("RustHandle.Release(handle, free);");
    code.close();
    read_and_write(code, &public);
    code.close();
}

/// The delegates behind `RustHandle` and the function that makes one.
pub(super) fn handle_delegates(code: &mut Code, object: &Object) {
    let clone = object.ffi_object_clone().name();
    let free = object.ffi_object_free().name();
    code.line(format!("private static readonly CloneHandle clone = Native.{clone};"));
    code.line(format!("private static readonly FreeHandle free = Native.{free};"));
    code.gap();
    code.open("internal static RustHandle Own(ulong handle)");
    code.line(format!("return new RustHandle(handle, \"{}\", clone, free);", names::upper(object.name())));
    code.close();
}

/// `Read` and `Write` for handles inside other values.
pub(super) fn read_and_write(code: &mut Code, public: &str) {
    code.gap();
    code.open(format!("internal override {public} Read(Reader reader)"));
    code.line("return LiftHandle(reader.U64());");
    code.close();
    code.gap();
    code.open(format!("internal override void Write(Writer writer, {public} value)"));
    code.line("ulong handle = LowerHandle(value);");
    code.line("writer.OnFailure(() => ReleaseHandle(handle));");
    code.line("writer.U64(handle);");
    code.close();
}

/// The primary constructor is C#'s; the others, and any that C# couldn't tell apart, are static methods.
fn constructor_of(
    code: &mut Code,
    types: Types<'_>,
    class: &str,
    constructor: &Constructor,
) -> Result<(), BindgenError> {
    let parameters = calls::parameters(types, &constructor.arguments())?;
    code.gap();
    code.lines(calls::documentation(types, constructor));
    let own = types.interop(&format!("{class}Codec.Own"));
    if constructor.is_primary_constructor() {
        code.open(format!("public {class}({parameters})"));
        calls::body(code, types, constructor, &Receiver::None, |result| {
            format!("this.handle = {own}({result});")
        })?;
    } else {
        let public = types.global(class);
        let name = names::method(constructor.name(), class);
        code.open(format!("public static {public} {name}({parameters})"));
        calls::body(code, types, constructor, &Receiver::None, |result| {
            format!("return new {public}({own}({result}));")
        })?;
    }
    code.close();
    Ok(())
}

fn method_of(
    code: &mut Code,
    types: Types<'_>,
    class: &str,
    name: String,
    method: &Method,
) -> Result<(), BindgenError> {
    let parameters = calls::parameters(types, &method.arguments())?;
    let (modifier, name) = match name.strip_prefix("override ") {
        Some(name) => ("override ", name.to_owned()),
        None => ("", name),
    };
    let result = method.return_type().map_or_else(|| "void".to_owned(), |ty| types.public(ty));
    code.gap();
    code.lines(calls::documentation(types, method));
    code.open(format!("public {modifier}{result} {name}({parameters})"));
    calls::body(code, types, method, &Receiver::Object(format!("{class}Codec")), |result| {
        method.return_type().map(|ty| format!("return {};", types.lift(ty, result))).unwrap_or_default()
    })?;
    code.close();
    Ok(())
}
