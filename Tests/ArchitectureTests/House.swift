import Foundation

/// The package as tidy sees it: the manifest's targets and the text of every file. Rules are functions of this value, so
/// that a test can plant a bad file in it.
struct House: Sendable {
    struct Room: Sendable {
        var name: String
        /// `Sources/<Layer>/<name>` or `Tests/<name>`.
        var path: String
        var imports: [String]
        var isTest = false
        var isExecutable = false
        var hasStrictMemorySafety = false
        var treatsWarningsAsErrors = false
        /// The library products that vend it: other packages may import it.
        var products: [String] = []

        var layer: String { path.hasPrefix("Sources/") ? String(path.split(separator: "/")[1]) : "" }
        /// Takes time, randomness, storage and network as arguments.
        var isPure: Bool { ["Base", "Core", "Node", "Simulation"].contains(layer) }
        /// Lies behind a C library's door.
        var isCLibrary: Bool { layer == "CLibs" }
    }

    var rooms: [Room]
    /// The path of every file that is part of the package, to its text.
    let texts: [String: String]
    /// What lies at the top, dotfiles left out.
    var topLevel: [String]

    /// The paths of all files, sorted.
    let paths: [String]

    /// The Swift files under Sources, scanned once for all rules.
    let sources: [SourceFile]

    /// The room that a file belongs to.
    func room(of path: String) -> Room? { rooms.first { path.hasPrefix($0.path + "/") } }

    init(rooms: [Room], texts: [String: String], topLevel: [String]) {
        self.rooms = rooms
        self.texts = texts
        self.topLevel = topLevel
        paths = texts.keys.sorted()
        sources = paths.filter { $0.hasPrefix("Sources/") && $0.hasSuffix(".swift") }
            .map { SourceFile(path: $0, text: texts[$0]!) }
    }

    /// The Swift files of pure targets, each with its room.
    var pureSources: [(SourceFile, Room)] {
        sources.compactMap { file in room(of: file.path).flatMap { $0.isPure ? (file, $0) : nil } }
    }
}

extension House {
    /// This package, read from the disk once for all tests.
    static let mine = Result { try House(at: root) }

    static let root: URL = {
        var folder = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
        while !FileManager.default.fileExists(atPath: folder.appendingPathComponent("Package.swift").path) {
            precondition(folder.path != "/", "no Package.swift above \(#filePath)")
            folder.deleteLastPathComponent()
        }
        return folder
    }()

    private init(at root: URL) throws {
        let manifest = try String(contentsOf: root.appendingPathComponent("Package.swift"), encoding: .utf8)
        let topLevel = try FileManager.default.contentsOfDirectory(atPath: root.path)
            .filter { !$0.hasPrefix(".") }.sorted()
        var texts: [String: String] = [:]
        for top in topLevel + [".ci"] { try House.read(top, root, into: &texts) }
        self.init(
            rooms: try Manifest.rooms(try Manifest.dump(manifest).get()), texts: texts, topLevel: topLevel)
    }

    /// Build products and caches are not part of the package.
    private static let passedOver: Set<String> = [".build", "__pycache__", ".venv"]

    private static func read(_ path: String, _ root: URL, into texts: inout [String: String]) throws {
        let url = root.appendingPathComponent(path)
        let type = try? url.resourceValues(forKeys: [.isDirectoryKey])
        if type?.isDirectory == true {
            for name in try FileManager.default.contentsOfDirectory(atPath: url.path).sorted()
            where !House.passedOver.contains(name) {
                try read(path + "/" + name, root, into: &texts)
            }
        } else if let data = FileManager.default.contents(atPath: url.path),
            let text = String(validating: data, as: UTF8.self)
        {
            texts[path] = text
        }
    }
}
