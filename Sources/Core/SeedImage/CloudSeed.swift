/// What cloud-init in a guest finds on its first start: a volume `cidata` in the form that it calls NoCloud.
package struct CloudSeed: Hashable, Sendable {
    /// Says to cloud-init whether it has been here before.
    package var instance: String
    package var hostname: String
    package var userData: String
    package var networkConfig: String?

    package init(instance: String, hostname: String, userData: String, networkConfig: String? = nil) {
        self.instance = instance
        self.hostname = hostname
        self.userData = userData
        self.networkConfig = networkConfig
    }

    /// Names and ids in double quotes, as JSON has them, which YAML reads too.
    private static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": quoted += "\\" + String(scalar)
            case "\0"..." ": quoted += " "
            default: quoted += String(scalar)
            }
        }
        return quoted + "\""
    }

    package func image() throws(ISOImage.Refusal) -> ISOImage {
        let about = "instance-id: \(CloudSeed.quoted(instance))\nlocal-hostname: \(CloudSeed.quoted(hostname))\n"
        var files = [ISOImage.File("meta-data", Array(about.utf8)), ISOImage.File("user-data", Array(userData.utf8))]
        if let networkConfig { files.append(ISOImage.File("network-config", Array(networkConfig.utf8))) }
        return try ISOImage(label: "cidata", files)
    }
}
