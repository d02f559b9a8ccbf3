import Foundation

/// What SwiftPM makes of a manifest. It works on a copy in a private folder, since the package's own build folder is
/// locked while its tests run.
enum Manifest {
    struct Refused: Error, CustomStringConvertible {
        let description: String
    }

    /// The JSON of `swift package dump-package`, or what SwiftPM had to say.
    static func dump(_ text: String) throws -> Result<Data, Refused> {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("manifest-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try Data(text.utf8).write(to: folder.appendingPathComponent("Package.swift"))
        let said = folder.appendingPathComponent("said")
        try Data().write(to: said)

        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["swift", "package", "--package-path", folder.path, "dump-package"]
        process.environment = ProcessInfo.processInfo.environment
            .merging(["TMPDIR": folder.path, "SWIFT_BACKTRACE": "enable=no"]) { _, ours in ours }
        let output = Pipe()
        process.standardOutput = output
        process.standardError = try FileHandle(forWritingTo: said)
        try process.run()
        let json = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        if process.terminationStatus == 0 { return .success(json) }
        return .failure(Refused(description: try String(contentsOf: said, encoding: .utf8)))
    }

    private struct Package: Decodable {
        struct Target: Decodable {
            var name: String
            var path: String?
            var type: String
            var dependencies: [[String: [Text]]]
            var settings: [Setting]
        }
        struct Setting: Decodable {
            var kind: [String: [String: Text]]
        }
        struct Product: Decodable {
            struct Kind: Decodable {
                var library: [String]?
            }
            var name: String
            var targets: [String]
            var type: Kind
        }
        var targets: [Target]
        var products: [Product]
    }

    /// A value that is of interest only when it is a string.
    private struct Text: Decodable {
        let text: String?
        init(from decoder: any Decoder) throws { text = try? decoder.singleValueContainer().decode(String.self) }
    }

    static func rooms(_ json: Data) throws -> [House.Room] {
        let package = try JSONDecoder().decode(Package.self, from: json)
        let imports = Dictionary(
            uniqueKeysWithValues: package.targets.map { target in
                (target.name, target.dependencies.compactMap { $0.values.first?.first?.text })
            })
        let libraries = package.products.filter { $0.type.library != nil }
        return package.targets.map { target in
            let settings = target.settings.map(\.kind)
            return House.Room(
                name: target.name,
                path: target.path ?? (target.type == "test" ? "Tests/" : "Sources/") + target.name,
                imports: imports[target.name] ?? [],
                isTest: target.type == "test",
                isExecutable: target.type == "executable",
                hasStrictMemorySafety: settings.contains { $0["strictMemorySafety"] != nil },
                treatsWarningsAsErrors: settings.contains { $0["treatAllWarnings"]?["_0"]?.text == "error" },
                products: libraries.filter { $0.targets.contains(target.name) }.map(\.name))
        }
    }
}
