//! Traits that foreign code implements: an interface, the table of functions through which Rust calls it, and the map
//! that keeps the objects alive that Rust holds.

use uniffi_bindgen::interface::{AsType, FfiType, Method, Object, ObjectImpl, TraitKind};

use super::{
    calls,
    code::Code,
    docs, names, objects,
    types::{Types, plain},
};
use crate::error::BindgenError;

/// A trait as both kinds of UniFFI traits look from here.
pub(super) struct Trait<'a> {
    /// Rust's name.
    pub(super) name: &'a str,
    pub(super) docstring: Option<&'a str>,
    pub(super) methods: Vec<&'a Method>,
    /// The function that takes the table.
    pub(super) register: &'a str,
    /// Rust's side, where Rust can implement the trait too.
    pub(super) rust_side: Option<&'a Object>,
}

impl<'a> Trait<'a> {
    /// Every trait of the component that foreign code can implement.
    pub(super) fn all(types: Types<'a>) -> Vec<Self> {
        let objects =
            types.ci().object_definitions().iter().filter(|object| object.has_callback_interface()).map(
                |object| Self {
                    name: object.name(),
                    docstring: object.docstring(),
                    methods: object.methods(),
                    register: object.ffi_init_callback().name(),
                    rust_side: matches!(object.imp(), ObjectImpl::Trait(TraitKind::Both)).then_some(object),
                },
            );
        let legacy = types.ci().callback_interface_definitions().iter().map(|interface| Self {
            name: interface.name(),
            docstring: interface.docstring(),
            methods: interface.methods(),
            register: interface.ffi_init_callback().name(),
            rust_side: None,
        });
        objects.chain(legacy).collect()
    }
}

/// The public interface, and the class for Rust's side if there is one.
pub(super) fn class(code: &mut Code, types: Types<'_>, definition: &Trait<'_>) -> Result<(), BindgenError> {
    let interface = names::interface(definition.name);
    code.gap();
    code.lines(docs::summary(definition.docstring));
    code.open(format!("public interface {interface}"));
    for method in &definition.methods {
        code.gap();
        code.lines(calls::documentation(types, *method));
        let result = method.return_type().map_or_else(|| "void".to_owned(), |ty| types.public(ty));
        let name = names::method(method.name(), &names::upper(definition.name));
        code.line(format!("{result} {name}({});", calls::parameters(types, &method.arguments())?));
    }
    code.close();
    match definition.rust_side {
        Some(object) => objects::class(code, types, object, Some(&interface)),
        None => Ok(()),
    }
}

/// The converter, with the map of foreign objects.
pub(super) fn codec(code: &mut Code, types: Types<'_>, definition: &Trait<'_>) {
    let class = names::upper(definition.name);
    let public = types.global(&names::interface(definition.name));
    code.gap();
    code.open(format!("internal sealed class {class}Codec : Converter<{public}>"));
    code.line(format!("internal static readonly {class}Codec Instance = new {class}Codec();"));
    code.line(format!("internal static readonly HandleMap<{public}> Foreign = new HandleMap<{public}>();"));
    if let Some(object) = definition.rust_side {
        objects::handle_delegates(code, object);
    }
    let rust_class = types.global(&class);
    code.gap();
    code.open(format!("internal static ulong LowerHandle({public} value)"));
    code.line("RequireValue(value);");
    if definition.rust_side.is_some() {
        code.line(format!("{rust_class} rust = value as {rust_class};"));
        code.line("return rust == null ? Foreign.Insert(value) : rust.handle.Clone();");
    } else {
        code.line("return Foreign.Insert(value);");
    }
    code.close();
    code.gap();
    code.open(format!("internal static {public} LiftHandle(ulong handle)"));
    if definition.rust_side.is_some() {
        code.open(format!("if (!HandleMap<{public}>.IsForeign(handle))"));
        code.line(format!("return new {rust_class}(Own(handle));"));
        code.close();
    }
    code.line("return Foreign.Remove(handle);");
    code.close();
    code.gap();
    code.open("internal static void ReleaseHandle(ulong handle)");
    code.open(format!("if (HandleMap<{public}>.IsForeign(handle))"));
    code.line("Foreign.Remove(handle);");
    code.close();
    if definition.rust_side.is_some() {
        code.open("else");
        code.line("RustHandle.Release(handle, free);");
        code.close();
    }
    code.close();
    objects::read_and_write(code, &public);
    code.close();
}

/// The table of functions.
pub(super) fn table(code: &mut Code, types: Types<'_>, definition: &Trait<'_>) {
    let class = names::upper(definition.name);
    code.gap();
    code.open(format!("internal static class {class}Table"));
    code.line("[UnmanagedFunctionPointer(CallingConvention.Cdecl)]");
    code.line("private delegate void FreeFunction(ulong handle);");
    code.line("[UnmanagedFunctionPointer(CallingConvention.Cdecl)]");
    code.line("private delegate ulong CloneFunction(ulong handle);");
    for (index, method) in definition.methods.iter().enumerate() {
        code.line("[UnmanagedFunctionPointer(CallingConvention.Cdecl)]");
        code.line(format!("private delegate void Function{index}({});", signature(types, method)));
    }
    code.gap();
    code.line("// Rust calls these for as long as the process lives, so they are never collected.");
    code.open("private static readonly Delegate[] functions =");
    code.line("new FreeFunction(Free),");
    code.line("new CloneFunction(Clone),");
    for index in 0..definition.methods.len() {
        code.line(format!("new Function{index}(Call{index}),"));
    }
    code.close_statement();
    code.gap();
    code.open("internal static void Register()");
    code.line("// Never freed: Rust keeps the pointer.");
    code.line("IntPtr table = Marshal.AllocHGlobal(functions.Length * IntPtr.Size);");
    code.open("for (int i = 0; i < functions.Length; i++)");
    code.line(
        "Marshal.WriteIntPtr(table, i * IntPtr.Size, Marshal.GetFunctionPointerForDelegate(functions[i]));",
    );
    code.close();
    code.line(format!("Native.{}(table);", definition.register));
    code.close();
    free_and_clone(code, &class);
    for (index, method) in definition.methods.iter().enumerate() {
        call(code, types, definition, index, method);
    }
    code.close();
}

fn free_and_clone(code: &mut Code, class: &str) {
    code.gap();
    code.line(
        "// Neither may throw into Rust; an unknown handle can only be a bug, and there is nobody to tell.",
    );
    code.open("private static void Free(ulong handle)");
    code.open("try");
    code.line(format!("{class}Codec.Foreign.Remove(handle);"));
    code.close();
    code.open("catch (Exception)");
    code.close();
    code.close();
    code.gap();
    code.open("private static ulong Clone(ulong handle)");
    code.open("try");
    code.line(format!("return {class}Codec.Foreign.Clone(handle);"));
    code.close();
    code.open("catch (Exception)");
    code.line("return 0;");
    code.close();
    code.close();
}

fn call(code: &mut Code, types: Types<'_>, definition: &Trait<'_>, index: usize, method: &Method) {
    let class = names::upper(definition.name);
    code.gap();
    code.open(format!("private static void Call{index}({})", signature(types, method)));
    code.open("try");
    let mut passed = Vec::new();
    for (position, argument) in method.arguments().iter().enumerate() {
        let ty = argument.as_type();
        code.line(format!(
            "{} value{position} = {};",
            types.public(&ty),
            types.lift(&ty, &format!("argument{position}"))
        ));
        passed.push(format!("value{position}"));
    }
    let target = format!("{class}Codec.Foreign.Get(handle)");
    let name = names::method(method.name(), &class);
    let call = format!("{target}.{name}({})", passed.join(", "));
    let statement = match method.return_type() {
        Some(ty) => format!("result = {};", types.lower(ty, &call)),
        None => format!("{call};"),
    };
    match method.throws_type() {
        None => code.line(statement),
        Some(error) => {
            code.open("try");
            code.line(statement);
            code.close();
            code.open(format!("catch ({} error)", types.public(error)));
            code.line(format!("status.ErrorBuffer = {}.Lower(error);", types.codec(error)));
            code.line("status.Code = RustCallStatus.Error;");
            code.close();
        }
    }
    code.close();
    code.open("catch (Exception error)");
    code.line("status.SetUnexpected(error);");
    code.close();
    code.close();
}

fn signature(types: Types<'_>, method: &Method) -> String {
    let mut parameters = vec!["ulong handle".to_owned()];
    for (index, argument) in method.arguments().iter().enumerate() {
        parameters.push(format!("{} argument{index}", types.ffi_argument(argument)));
    }
    parameters.push(match method.return_type() {
        Some(ty) => format!("ref {} result", types.ffi(&FfiType::from(plain(ty)))),
        // Rust passes a pointer to nothing.
        None => "IntPtr nothing".to_owned(),
    });
    parameters.push("ref RustCallStatus status".to_owned());
    parameters.join(", ")
}
