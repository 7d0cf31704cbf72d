import Foundation

extension TuntrailError {
    /// What was wrong, with which value, and what to do: for a log or a support screen. Never holds a key. Better than
    /// `localizedDescription`, which also spells out the error's type.
    public var reason: String {
        switch self {
        case .Config(let reason), .Storage(let reason), .NoConsent(let reason), .Tunnel(let reason), .Closed(let reason),
            .Internal(let reason):
            reason
        }
    }
}

extension NSError {
    /// The error for another process, of which only domain, code and text arrive.
    package convenience init(crossing error: Error) {
        let text = (error as? TuntrailError)?.reason ?? error.localizedDescription
        self.init(domain: "tuntrail", code: (error as NSError).code, userInfo: [NSLocalizedDescriptionKey: text])
    }
}
