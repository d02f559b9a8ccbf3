/// The end of what a VM wrote to its serial console, and where that console is.
package struct VMLogs: Shaped {
    /// So that an answer fits what one node sends another.
    package static let bytesMax = 262_144
    package static let bytesStandard = 65_536

    package var host: String
    /// A socket on that host.
    package var console: String
    package var text: [UInt8]

    package init(host: String, console: String, text: [UInt8]) {
        self.host = host
        self.console = console
        self.text = text
    }

    package static let shape = Shape(
        "VMLogs",
        [
            Field("host", .string, "where the VM is"), Field("console", .string, "the console's socket on that host"),
            Field("base64", .bytes, "the end of what it wrote"),
        ])
    package var members: [JSONMember] {
        [JSONMember("host", host), JSONMember("console", console), JSONMember("base64", base64: text)]
    }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(host: object.text("host"), console: object.text("console"), text: object.bytes("base64"))
    }
}
