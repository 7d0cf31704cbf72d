// The part of SwiftUI that the sample uses; see NetworkExtension.swift.
import Foundation

@MainActor public protocol View {
    associatedtype Body: View
    @ViewBuilder @MainActor var body: Body { get }
}

extension Never: View {
    public var body: Never { fatalError() }
}

@MainActor @resultBuilder public enum ViewBuilder {
    public static func buildBlock<Content: View>(_ content: Content) -> Content { content }
    public static func buildBlock<each Content: View>(_ content: repeat each Content) -> Tuple<repeat each Content> {
        Tuple((repeat each content))
    }
    public static func buildIf<Content: View>(_ content: Content?) -> Maybe<Content> { Maybe(content) }
}

public struct Tuple<each Content: View>: View {
    init(_ content: (repeat each Content)) {}
    public var body: Never { fatalError() }
}

public struct Maybe<Content: View>: View {
    init(_ content: Content?) {}
    public var body: Never { fatalError() }
}

@MainActor public protocol Scene {}

public struct WindowGroup<Content: View>: Scene {
    public init(@ViewBuilder content: () -> Content) {}
}

@MainActor public protocol App {
    associatedtype Body: Scene
    var body: Body { get }
    init()
}

extension App {
    public static func main() {}
}

@propertyWrapper public struct State<Value> {
    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
    public var wrappedValue: Value
    public var projectedValue: Binding<Value> { fatalError() }
}

@dynamicMemberLookup @propertyWrapper public struct Binding<Value> {
    init(_ value: Value) {}
    public subscript<Subject>(dynamicMember keyPath: WritableKeyPath<Value, Subject>) -> Binding<Subject> { fatalError() }
    public var wrappedValue: Value {
        get { fatalError() }
        nonmutating set {}
    }
}

public struct Form<Content: View>: View {
    public init(@ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}

public struct Section<Content: View>: View {
    public init(_ title: String, @ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}

public enum Axis { case horizontal, vertical }

public struct TextField: View {
    public init(_ title: String, text: Binding<String>, axis: Axis) {}
    public var body: Never { fatalError() }
}

public struct Button: View {
    public init(_ title: String, action: @escaping @MainActor () -> Void) {}
    public var body: Never { fatalError() }
}

public struct Toggle: View {
    public init(_ title: String, isOn: Binding<Bool>) {}
    public var body: Never { fatalError() }
}

public struct ProgressView: View {
    public init(value: Double, total: Double = 1) {}
    public var body: Never { fatalError() }
}

public struct ShareLink: View {
    public init(item: URL) {}
    public var body: Never { fatalError() }
}

public struct Text: View {
    public init(_ content: String) {}
    public var body: Never { fatalError() }
}

extension View {
    public func disabled(_ disabled: Bool) -> some View { self }
    public func task(_ action: @escaping @Sendable @isolated(any) () async -> Void) -> some View { self }
}
