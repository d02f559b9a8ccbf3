import Glibc
import SeedImage
import Testing

@Suite struct ISOImageTests {
    private let files = [
        ISOImage.File("user-data", Array("#cloud-config\nhostname: web-1\n".utf8)),
        ISOImage.File("meta-data", [UInt8](repeating: 7, count: 5_000)), ISOImage.File("empty", []),
    ]

    @Test func `equal files give equal bytes, in whatever order they are named`() throws {
        #expect(try ISOImage(label: "cidata", files) == ISOImage(label: "cidata", files.reversed()))
        #expect(try ISOImage(label: "cidata", files).bytes.count == (25 + 1 + 3 + 1) * 2_048)
    }

    @Test func `numbers stand in both orders, and the root's extent is where the root is`() throws {
        let image = try ISOImage(label: "cidata", files).bytes
        for (sector, kind, root) in [(16, 1, 23), (17, 2, 24)] as [(Int, UInt8, Int)] {
            let at = sector * 2_048
            #expect(image[at] == kind && image[(at + 1)..<(at + 6)].elementsEqual("CD001".utf8))
            let size = image.count / 2_048
            #expect(image[(at + 80)..<(at + 88)].elementsEqual([UInt8(size), 0, 0, 0, 0, 0, 0, UInt8(size)]))
            #expect(image[at + 158] == UInt8(root) && image[at + 165] == UInt8(root))
        }
        #expect(image[18 * 2_048] == 255)
    }

    @Test func `names that are none, and two that readers could not tell apart, are refused`() {
        for names in [["a/b"], [""], ["é"], ["a-b", "a_b"], [String(repeating: "a", count: 25)]] {
            #expect(throws: ISOImage.Refusal.self) {
                try ISOImage(label: "cidata", names.map { ISOImage.File($0, [1]) })
            }
        }
        #expect(throws: ISOImage.Refusal.tooMany) {
            try ISOImage(label: "cidata", (0..<9).map { ISOImage.File("f\($0)", []) })
        }
    }

    @Test func `what a guest is told about itself can't end its line`() throws {
        let seed = CloudSeed(instance: "vm-7", hostname: "a\"b\nrun: x", userData: "#cloud-config\n")
        let image = try seed.image().bytes
        let text = String(decoding: image, as: UTF8.self)
        #expect(text.contains("local-hostname: \"a\\\"b run: x\"\n"))
    }

    // MARK: Another reader

    static let reader = "/usr/bin/isoinfo"

    @Test(.enabled(if: access(ISOImageTests.reader, X_OK) == 0, "there is no isoinfo here (Debian: genisoimage)"))
    func `another reader finds the same files under the same names`() throws {
        var template = Array("/tmp/muster-i-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            for name in ["image", "out"] { unlink("\(path)/\(name)") }
            rmdir(path)
        }
        let image = try ISOImage(label: "cidata", files).bytes
        let file = open(path + "/image", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        #expect(image.withUnsafeBytes { write(file, $0.baseAddress, $0.count) } == image.count)
        close(file)
        func ask(_ words: [String]) -> [UInt8] {
            #expect(ISOImageTests.run(ISOImageTests.reader, words + ["-i", path + "/image"], to: path + "/out") == 0)
            return ISOImageTests.read(path + "/out")
        }
        for each in files {
            #expect(ask(["-J", "-x", "/" + each.name]) == each.bytes, "\(each.name), by its name")
            let short = "/" + each.name.uppercased().replacing("-", with: "_") + ".;1"
            #expect(ask(["-x", short]) == each.bytes, "\(each.name), by its short name")
        }
        #expect(String(decoding: ask(["-d"]), as: UTF8.self).contains("Volume id: cidata\n"))
    }

    private static func read(_ path: String) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { close(file) }
        var all: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 14)
        while true {
            let count = Glibc.read(file, &part, part.count)
            if count <= 0 { return all }
            all += part[..<count]
        }
    }

    private static func run(_ program: String, _ words: [String], to path: String) -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 1, path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        var list: [UnsafeMutablePointer<CChar>?] = ([program] + words).map { strdup($0) } + [nil]
        defer { for word in list { free(word) } }
        var process: pid_t = 0
        guard posix_spawn(&process, program, &actions, nil, &list, nil) == 0 else { return -1 }
        var status: Int32 = 0
        waitpid(process, &status, 0)
        return status
    }
}
