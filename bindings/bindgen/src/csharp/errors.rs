//! Errors: an abstract exception class with a nested class for each variant.

use uniffi_bindgen::interface::{AsType, Enum, Type, Variant};

use super::{
    code::Code,
    docs, enums, names,
    types::{Types, plain},
};

/// The public exception classes.
pub(super) fn class(code: &mut Code, types: Types<'_>, definition: &Enum) {
    let class = names::exception(definition.name());
    let writer = types.interop("Writer");
    code.gap();
    code.lines(docs::summary(definition.docstring()));
    code.open(format!("public abstract class {class} : global::System.Exception"));
    code.open(format!("internal {class}(string message) : base(message)"));
    code.close();
    code.gap();
    code.line(format!("internal abstract void UniffiWrite({writer} writer);"));
    for (index, variant) in definition.variants().iter().enumerate() {
        nested(code, types, &class, definition, variant, index + 1);
    }
    code.close();
}

/// The converter. It is named after the enum, not after the exception.
pub(super) fn codec(code: &mut Code, types: Types<'_>, definition: &Enum) {
    let class = names::exception(definition.name());
    let public = types.global(&class);
    let codec = format!("{}Codec", names::upper(definition.name()));
    code.gap();
    code.open(format!("internal sealed class {codec} : Converter<{public}>"));
    code.line(format!("internal static readonly {codec} Instance = new {codec}();"));
    code.gap();
    code.open(format!("internal override {public} Read(Reader reader)"));
    code.line("int variant = reader.I32();");
    code.open("switch (variant)");
    for (index, variant) in definition.variants().iter().enumerate() {
        let made = format!("{public}.{}", names::exception_variant(variant.name(), &class));
        if definition.is_flat() {
            code.line(format!("case {}: return new {made}(reader.Utf8());", index + 1));
        } else {
            enums::read_variant(code, types, &made, variant, index + 1);
        }
    }
    code.line(enums::unknown_number(types, definition.name()));
    code.close();
    code.close();
    code.gap();
    code.open(format!("internal override void Write(Writer writer, {public} value)"));
    code.line("RequireValue(value);");
    code.line("value.UniffiWrite(writer);");
    code.close();
    code.close();
}

fn nested(
    code: &mut Code,
    types: Types<'_>,
    outer: &str,
    definition: &Enum,
    variant: &Variant,
    number: usize,
) {
    let class = names::exception_variant(variant.name(), outer);
    let base = types.global(outer);
    let writer = types.interop("Writer");
    code.gap();
    code.lines(docs::summary(variant.docstring()));
    code.open(format!("public sealed class {class} : {base}"));
    code.line(format!("/// <summary>Makes a <c>{class}</c>.</summary>"));
    if definition.is_flat() {
        code.open(format!("public {class}(string message) : base(message)"));
        code.close();
        code.gap();
        code.open(format!("internal override void UniffiWrite({writer} writer)"));
        code.line(format!("writer.I32({number});"));
        code.close();
        code.close();
        return;
    }
    let parameters = enums::variant_parameters(types, variant);
    code.open(format!("public {class}({parameters}) : base({})", message(variant)));
    for (index, field) in variant.fields().iter().enumerate() {
        let name = names::field(field.name(), index);
        code.line(format!("this.{} = {};", names::exception_property(&name, &class), names::lower(&name)));
    }
    code.close();
    for (index, field) in variant.fields().iter().enumerate() {
        let property = names::exception_property(&names::field(field.name(), index), &class);
        code.gap();
        code.lines(docs::summary(field.docstring()));
        code.line(format!("public {} {property} {{ get; private set; }}", types.public(&field.as_type())));
    }
    code.gap();
    code.open(format!("internal override void UniffiWrite({writer} writer)"));
    code.line(format!("writer.I32({number});"));
    for (index, field) in variant.fields().iter().enumerate() {
        let property = names::exception_property(&names::field(field.name(), index), &class);
        code.line(format!("{}.Write(writer, this.{property});", types.codec(&field.as_type())));
    }
    code.close();
    code.close();
}

/// The exception's text. Rust's own text does not cross the boundary, so it is the only text field, if there is just
/// one field and it is one, or the variant's name with its fields.
fn message(variant: &Variant) -> String {
    let names: Vec<String> =
        variant.fields().iter().enumerate().map(|(index, field)| names::field(field.name(), index)).collect();
    match (variant.fields(), names.as_slice()) {
        ([field], [name]) if *plain(&field.as_type()) == Type::String => names::lower(name),
        (_, names) => {
            let mut text = format!("\"{}", names::upper(variant.name()));
            for (index, name) in names.iter().enumerate() {
                let before = if index == 0 { " (" } else { ", " };
                text.push_str(&format!(
                    "{before}{}: \" + {} + \"",
                    names::lower(name).trim_start_matches('@'),
                    names::lower(name)
                ));
            }
            text.push_str(if names.is_empty() { "\"" } else { ")\"" });
            text
        }
    }
}
