import Foundation
import Tuntrail

/// What makes the sample yours: put your identifiers here, in project.yml and in the entitlements.
enum SampleSettings {
    static let extensionID = "com.example.tuntrail.sample.tunnel"
    static let appGroup = "group.com.example.tuntrail"
    /// With the prefix that `$(AppIdentifierPrefix)` stands for in the entitlements.
    static let keychainGroup = "TEAMID.com.example.tuntrail"
    static let logServer = "https://logs.example.com"

    /// Before the user has decided anything.
    static let initial = TuntrailSettings(appGroup: appGroup, baseURL: logServer)
}
