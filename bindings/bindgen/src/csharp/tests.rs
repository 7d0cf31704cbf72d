//! One test for each rule at the boundary and for each trap in C#'s names, on small facades written in UDL. That the
//! result compiles and behaves is for the callers in `tests/bindings` to show.

use uniffi_bindgen::ComponentInterface;

use super::generate;
use crate::{BindgenError, load};

#[test]
fn a_receiver_and_every_owned_argument_are_given_back_if_the_call_is_not_made() {
    let source = written(
        "namespace demo {}; interface Client { constructor(); string tag(string text, Client other); };",
    );
    assert_contains(
        &source,
        r#"
        public string Tag(string text, global::Demo.Client other)
        {
            if (text == null)
            {
                throw new global::System.ArgumentNullException("text");
            }
            if (other == null)
            {
                throw new global::System.ArgumentNullException("other");
            }
            global::Demo.Interop.RustCallStatus uniffiStatus = default(global::Demo.Interop.RustCallStatus);
            ulong uniffiSelf = default(ulong);
            global::Demo.Interop.RustBuffer uniffiArgument0 = default(global::Demo.Interop.RustBuffer);
            ulong uniffiArgument1 = default(ulong);
            global::Demo.Interop.RustBuffer uniffiResult;
            bool uniffiPassed = false;
            try
            {
                uniffiSelf = this.handle.Clone();
                uniffiArgument0 = global::Demo.Interop.TextConverter.Instance.Lower(text);
                uniffiArgument1 = global::Demo.Interop.ClientCodec.LowerHandle(other);
                uniffiPassed = true;
                uniffiResult = global::Demo.Interop.Native.uniffi_demo_fn_method_client_tag(uniffiSelf, uniffiArgument0, uniffiArgument1, ref uniffiStatus);
            }
            finally
            {
                if (!uniffiPassed)
                {
                    global::Demo.Interop.ClientCodec.ReleaseHandle(uniffiSelf);
                    uniffiArgument0.Free();
                    global::Demo.Interop.ClientCodec.ReleaseHandle(uniffiArgument1);
                }
            }
            uniffiStatus.Check();
            return global::Demo.Interop.TextConverter.Instance.Lift(uniffiResult);
        }
        "#,
    );
}

#[test]
fn a_call_that_owns_one_thing_at_most_needs_no_guard() {
    let source = written("namespace demo {}; interface Client { u64 value(i8 plus, boolean twice); };");
    assert_contains(
        &source,
        "ulong uniffiSelf = this.handle.Clone();
         ulong uniffiResult = global::Demo.Interop.Native.uniffi_demo_fn_method_client_value(uniffiSelf, plus, \
         global::Demo.Interop.BooleanConverter.ToByte(twice), ref uniffiStatus);
         uniffiStatus.Check();
         return uniffiResult;",
    );
    assert!(!source.contains("uniffiPassed"));
}

#[test]
fn borrowed_bytes_are_pinned_for_the_call_and_never_copied() {
    let source = written("namespace demo { u64 sum([ByRef] bytes data); };");
    assert_contains(
        &source,
        "try
         {
         uniffiArgument0 = new global::Demo.Interop.PinnedBytes(data);
         uniffiResult = global::Demo.Interop.Native.uniffi_demo_fn_func_sum(uniffiArgument0.Bytes, ref uniffiStatus);
         }
         finally
         {
         uniffiArgument0.Release();
         }",
    );
    assert_contains(
        &source,
        "internal static extern ulong uniffi_demo_fn_func_sum(global::Demo.Interop.ForeignBytes argument0, ref RustCallStatus status);",
    );
}

#[test]
fn owned_bytes_go_in_a_buffer() {
    let source = written("namespace demo { bytes echo(bytes data); };");
    assert_contains(
        &source,
        "global::Demo.Interop.RustBuffer uniffiArgument0 = global::Demo.Interop.BytesConverter.Instance.Lower(data);",
    );
    assert!(!source.contains("new global::Demo.Interop.PinnedBytes"));
}

#[test]
fn what_needs_no_object_checks_the_library_first_and_methods_do_not() {
    let source = written("namespace demo { void go(); }; interface Client { constructor(); void work(); };");
    let checks = source.matches("global::Demo.Interop.Library.Require();").count();
    assert_eq!(checks, 2, "the function and the constructor");
}

#[test]
fn the_contract_and_every_checksum_are_compared() {
    let mut ci = ComponentInterface::from_webidl(
        "namespace demo { void go(); }; interface Client { constructor(); void work(); };",
        "demo",
    )
    .unwrap();
    load::derive(&mut ci).unwrap();
    let source = generate(&ci, "demo", &toml::Table::new()).unwrap().text;
    assert_contains(&source, &format!("ExpectedContract = {};", ci.uniffi_contract_version()));
    let checksums: Vec<_> = ci.iter_checksums().collect();
    assert_eq!(checksums.len(), 3);
    for (function, checksum) in checksums {
        assert_contains(&source, &format!("if (Native.{function}() != {checksum})"));
    }
}

#[test]
fn a_table_begins_with_free_and_clone_and_keeps_the_order_of_the_methods() {
    let source = written(
        "namespace demo {}; [Error] enum Failure { \"Bad\" };
         callback interface Listener { [Throws=Failure] u32 zulu(string text); void alpha(); };",
    );
    assert_contains(
        &source,
        "new FreeFunction(Free),
         new CloneFunction(Clone),
         new Function0(Call0),
         new Function1(Call1),",
    );
    assert_contains(
        &source,
        "private delegate void Function0(ulong handle, global::Demo.Interop.RustBuffer argument0, ref uint result, ref RustCallStatus status);",
    );
    assert_contains(
        &source,
        "private delegate void Function1(ulong handle, IntPtr nothing, ref RustCallStatus status);",
    );
}

#[test]
fn a_declared_exception_reaches_rust_as_the_error_and_any_other_as_unexpected() {
    let source = written(
        "namespace demo {}; [Error] interface Failure { Bad(u8 code); };
         callback interface Listener { [Throws=Failure] void call(); };",
    );
    assert_contains(
        &source,
        "try
         {
         try
         {
         ListenerCodec.Foreign.Get(handle).Call();
         }
         catch (global::Demo.FailureException error)
         {
         status.ErrorBuffer = global::Demo.Interop.FailureCodec.Instance.Lower(error);
         status.Code = RustCallStatus.Error;
         }
         }
         catch (Exception error)
         {
         status.SetUnexpected(error);
         }",
    );
}

#[test]
fn variants_are_counted_from_one() {
    let source = written("namespace demo {}; enum Kind { \"Tcp\", \"Udp\" };");
    assert_contains(&source, "case 1: return global::Demo.Kind.Tcp;\ncase 2: return global::Demo.Kind.Udp;");
    assert_contains(&source, "case global::Demo.Kind.Udp: writer.I32(2); break;");
}

#[test]
fn a_text_only_error_carries_its_text_and_sends_only_its_number() {
    let source = written("namespace demo { [Throws=Failure] void go(); }; [Error] enum Failure { \"Bad\" };");
    assert_contains(&source, "case 1: return new global::Demo.FailureException.Bad(reader.Utf8());");
    assert_contains(&source, "public Bad(string message) : base(message)");
    assert_contains(
        &source,
        "internal override void UniffiWrite(global::Demo.Interop.Writer writer)\n{\nwriter.I32(1);\n}",
    );
}

#[test]
fn fields_with_defaults_are_properties_and_the_others_arguments() {
    let source = written(
        "namespace demo {}; dictionary Config { u32 size = 7; string path; sequence<string> tags = []; string? note = null; };",
    );
    assert_contains(&source, "public Config(string path)");
    assert_contains(&source, "private uint size = 7U;");
    assert_contains(&source, "tags = new global::System.Collections.Generic.List<string>();");
    assert_contains(
        &source,
        "return new global::Demo.Config(field1) { Size = field0, Tags = field2, Note = field3 };",
    );
}

#[test]
fn only_defaults_at_the_end_can_be_left_out() {
    let source = written(
        "namespace demo { void go(optional u8 first = 1, string second, optional i64 third = -3, optional sequence<u8> fourth = []); };",
    );
    assert_contains(
        &source,
        "public static void Go(byte first, string second, long third = -3L, global::System.Collections.Generic.IReadOnlyList<byte> fourth = null)",
    );
    assert_contains(
        &source,
        "if (fourth == null)\n{\nfourth = new global::System.Collections.Generic.List<byte>();\n}",
    );
}

#[test]
fn keywords_stay_usable() {
    let source =
        written("namespace demo { u8 event(u8 class, string lock); }; dictionary Holder { string object; };");
    assert_contains(&source, "public static byte Event(byte @class, string @lock)");
    assert_contains(&source, "throw new global::System.ArgumentNullException(\"lock\");");
    assert_contains(&source, "public Holder(string @object)");
}

#[test]
fn a_variant_may_be_named_like_a_record_its_field_or_its_enum() {
    let source = written(
        "namespace demo {}; dictionary Point { u8 x; };
         [Enum] interface Shape { Point(Point point); Shape(u8 size); Circle(f64 circle); };",
    );
    assert_contains(&source, "public Point(global::Demo.Point point)");
    assert_contains(&source, "public sealed class ShapeVariant : global::Demo.Shape");
    assert_contains(&source, "public double CircleValue { get; private set; }");
}

#[test]
fn an_error_may_have_a_variant_and_a_field_named_message() {
    let source = written(
        "namespace demo { [Throws=Failure] void go(); };
         [Error] interface Failure { Message(string message); Data(u8 source, u8 more); };",
    );
    assert_contains(&source, "public sealed class MessageException : global::Demo.FailureException");
    assert_contains(&source, "public MessageException(string message) : base(message)");
    assert_contains(&source, "this.MessageValue = message;");
    assert_contains(
        &source,
        "public DataException(byte source, byte more) : base(\"Data (source: \" + source + \", more: \" + more + \")\")",
    );
    assert_contains(&source, "this.SourceValue = source;");
}

#[test]
fn display_becomes_to_string() {
    let source = written("namespace demo {}; [Traits=(Display)] interface Client { constructor(); };");
    assert_contains(&source, "public override string ToString()");

    let source = written("namespace demo {}; [Traits=(Display)] dictionary Peer { string name; };");
    // A record can be printed before anything else is called.
    assert_contains(&source, "public override string ToString()\n{\nglobal::Demo.Interop.Library.Require();");
}

#[test]
fn comments_become_documentation_and_declared_errors_are_named() {
    let source = written(
        "namespace demo {}; [Error] enum Failure { \"Bad\" };
         /// Talks to `x < y`.
         interface Client { /// Works.
         [Throws=Failure] void work(); };",
    );
    assert_contains(&source, "/// <summary>Talks to <c>x &lt; y</c>.</summary>\npublic sealed class Client");
    assert_contains(&source, "/// <exception cref=\"Demo.FailureException\">");
}

#[test]
fn the_configuration_names_the_namespace_the_library_and_the_functions() {
    let config: toml::Table = toml::from_str(
        "[bindings.csharp]\nnamespace = \"My.Sdk\"\ncdylib_name = \"my_sdk\"\nfunctions_class = \"Calls\"",
    )
    .unwrap();
    let source = generate(&component("namespace demo { void go(); };"), "ignored", &config).unwrap();
    assert_eq!(source.file_name, "My.Sdk.cs");
    assert_contains(&source.text, "namespace My.Sdk.Interop");
    assert_contains(&source.text, "Name = \"my_sdk\";");
    assert_contains(&source.text, "public static class Calls");
    assert!(!source.text.contains("@NAMESPACE@"));
}

#[test]
fn a_misspelt_option_is_refused() {
    let config: toml::Table = toml::from_str("[bindings.csharp]\nname_space = \"X\"").unwrap();
    let result = generate(&component("namespace demo {};"), "demo", &config);
    assert!(matches!(result, Err(BindgenError::Config { .. })), "{result:?}");
}

#[test]
fn what_is_not_supported_is_refused_by_name_before_anything_is_written() {
    let refusals = [
        ("namespace demo { [Async] void later(); };", "later"),
        ("namespace demo {}; [Traits=(Eq)] interface Client { constructor(); };", "Client"),
        (
            "namespace demo {}; interface Failure { string text(); }; interface Client { [Throws=Failure] void go(); };",
            "no enum",
        ),
        ("namespace demo { void go(record<bytes, u8> map); };", "keys"),
    ];
    for (udl, expected) in refusals {
        let result = generate(&component(udl), "demo", &toml::Table::new());
        let Err(error @ BindgenError::Unsupported { .. }) = result else { panic!("{udl}: {result:?}") };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn two_names_that_become_one_are_refused() {
    let clashes = [
        "namespace demo { void do_it(); void doIt(); };",
        "namespace demo {}; dictionary Config { u8 a_b; u8 aB; };",
        "namespace demo {}; dictionary InternalException { u8 a; };",
        "namespace demo {}; interface Client { void go_on(); void goOn(); };",
    ];
    for udl in clashes {
        let result = generate(&component(udl), "demo", &toml::Table::new());
        assert!(matches!(result, Err(BindgenError::NameClash { .. })), "{udl}: {result:?}");
    }
}

fn component(udl: &str) -> ComponentInterface {
    let mut ci = ComponentInterface::from_webidl(udl, "demo").unwrap();
    load::derive(&mut ci).unwrap();
    ci
}

fn written(udl: &str) -> String {
    generate(&component(udl), "demo", &toml::Table::new()).unwrap().text
}

/// Whether `part` stands in `text`, whatever the indentation.
#[track_caller]
fn assert_contains(text: &str, part: &str) {
    let flat = |text: &str| text.trim().lines().map(|line| line.trim()).collect::<Vec<_>>().join("\n");
    assert!(flat(text).contains(&flat(part)), "not found:\n{part}\n\nin:\n{text}");
}
