import ClusterBase
import FleetModel
import Foundation
import Hypervisor
import Reactor
import Testing

/// Storage domains and images as they are on a disk.
@Suite struct StorageDirectoryTests {
    private struct Folder: ~Copyable {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent(
            "muster-sd-\(UUID().uuidString.prefix(8))"
        ).path
        init() throws { try make("") }
        deinit { try? FileManager.default.removeItem(atPath: path) }
        func make(_ name: String) throws {
            try FileManager.default.createDirectory(atPath: "\(path)/\(name)", withIntermediateDirectories: true)
        }
        func write(_ name: String, _ bytes: Data = Data([1])) throws {
            try bytes.write(to: URL(fileURLWithPath: "\(path)/\(name)"))
        }
        func has(_ name: String) -> Bool { FileManager.default.fileExists(atPath: "\(path)/\(name)") }
        func names(_ name: String) throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: "\(path)/\(name)").sorted()
        }
    }
    /// Nothing moves here.
    private final class NoCarrier: MemoryCarrier {
        private final class Closed: MemoryStream {
            var bytesCarried: UInt64 { 0 }
            func tellTaken() {}
            func close(_ reason: String) {}
        }
        func send(
            _ part: GuestPart, of vm: VMID, epoch: UInt64, to host: HostID, path: String,
            _ hear: @escaping (MemoryNews) -> Void
        ) -> any MemoryStream { Closed() }
        func receive(
            _ part: GuestPart, of vm: VMID, epoch: UInt64, from host: HostID, path: String,
            _ hear: @escaping (MemoryNews) -> Void
        ) -> any MemoryStream { Closed() }
    }
    private static func mark(_ byte: UInt8, _ domain: String = "fast") -> StorageMark {
        StorageMark(
            domain: domain, cluster: [1, 2], mark: [UInt8](repeating: byte, count: StorageMark.markBytes))
    }

    @Test func `an empty directory, one with disks, one with a mark and none are told from each other`() throws {
        let folder = try Folder()
        let place = StorageDirectory("fast", in: folder.path)
        #expect(place.look() == .missing)
        #expect(place.write(StorageDirectoryTests.mark(1), isNew: true) != nil)
        try folder.make("fast")
        try folder.write("fast/lost+found")
        #expect(place.look() == .bare(hasDisks: false))
        try folder.write("fast/vm-7-root.raw")
        #expect(place.look() == .bare(hasDisks: true))
        #expect(place.write(StorageDirectoryTests.mark(1), isNew: true) == nil)
        #expect(place.look() == .marked(StorageDirectoryTests.mark(1)))
        // Who was faster keeps its own; who says that it is another one from now on does not ask.
        #expect(place.write(StorageDirectoryTests.mark(2), isNew: true) == nil)
        #expect(place.look() == .marked(StorageDirectoryTests.mark(1)))
        #expect(place.write(StorageDirectoryTests.mark(2), isNew: false) == nil)
        #expect(place.look() == .marked(StorageDirectoryTests.mark(2)))
        #expect(try folder.names("fast") == [".muster-domain", "lost+found", "vm-7-root.raw"])
        try folder.write("fast/.muster-domain", Data("nonsense".utf8))
        guard case .unreadable(let why) = place.look() else {
            Issue.record("it is no mark")
            return
        }
        #expect(why.contains("damaged"))
        #expect(StorageDirectory("../fast", in: folder.path).look() == .missing)
    }

    @Test func `a disk is removed from its domain, and not looked for where that is not mounted`() throws {
        let folder = try Folder()
        try folder.make("fast")
        let marks = ["fast": StorageDirectoryTests.mark(1).mark]
        let disks = [SharedDisks.Disk(name: "root", domain: "fast", hasImage: false)]
        let files = SharedDisks(folder.path, marks: marks)
        // The place of the domain: the file is not there, and not removed.
        #expect(files.remove(disks, of: VMID(7))?.contains("is not reached here") == true)
        #expect(StorageDirectory("fast", in: folder.path).write(StorageDirectoryTests.mark(2), isNew: true) == nil)
        #expect(files.remove(disks, of: VMID(7)) != nil, "another storage is not it either")
        #expect(StorageDirectory("fast", in: folder.path).write(StorageDirectoryTests.mark(1), isNew: false) == nil)
        try folder.write("fast/vm-\(VMID(7))-root.raw")
        for _ in 0..<2 { #expect(files.remove(disks, of: VMID(7)) == nil) }
        #expect(try folder.names("fast") == [".muster-domain"])
    }

    @Test func `a VM gets no disk where its domain is not mounted`() throws {
        let folder = try Folder()
        for name in ["storage/fast", "images", "vms"] { try folder.make(name) }
        var settings = QEMUSettings(
            directory: folder.path + "/vms", images: folder.path + "/images", storage: folder.path + "/storage")
        var spec = VMDescription(resources: Resources(cpuMillis: 1_000, memoryMiB: 64))
        spec.disks = [.init(name: "root", sizeMiB: 1, kind: .shared(domain: "fast"))]
        let vm = CellVM(id: VMID(7), name: "a", tenant: "t", spec: spec, at: LogTime(1), by: "a")
        func refusal() -> String? {
            do throws(QEMURefusal) {
                _ = try QEMUMachine(vm, settings, directory: folder.path + "/vms/7")
                return nil
            } catch {
                return "\(error)"
            }
        }
        #expect(refusal() == nil, "before there are marks")
        settings.marks = [:]
        #expect(refusal()?.contains("which no host of this cluster has begun") == true)
        settings.marks = ["fast": StorageDirectoryTests.mark(1).mark]
        #expect(refusal()?.contains("is not what is mounted at") == true)
        #expect(
            StorageDirectory("fast", in: folder.path + "/storage").write(StorageDirectoryTests.mark(1), isNew: true)
                == nil)
        #expect(refusal() == nil)
        settings.marks = ["fast": StorageDirectoryTests.mark(2).mark]
        #expect(refusal() != nil)
    }

    @Test func `images that disks here were made over are known by content, whatever their names mean by now`() throws {
        let folder = try Folder()
        for name in ["storage", "images", "vms/7", "vms/8"] { try folder.make(name) }
        let digest = String(repeating: "ab", count: 32)
        let backing = Array("/somewhere/images/\(digest)".utf8)
        var head = [UInt8](repeating: 0, count: 512)
        head.replaceSubrange(0..<8, with: [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3])
        head[14] = 1
        head[19] = UInt8(backing.count)
        try folder.write("vms/7/local-root.qcow2", Data(head[..<256] + backing))
        try folder.write("vms/7/local-data.raw", Data(head[..<256] + backing))
        try folder.write("vms/8/local-cut.qcow2", Data(head[..<100]))
        var settings = QEMUSettings(
            directory: folder.path + "/vms", images: folder.path + "/images", storage: folder.path + "/storage")
        settings.triesKVM = false
        let loop = try EventLoop()
        let driver = QEMUHypervisor(settings, loop: loop, carrier: NoCarrier())
        #expect(driver.imagesInUse == [digest])
        // Its directory goes with it.
        driver.carryOut([.discard(VMID(7), epoch: 9, forGood: true)], now: .origin)
        #expect(driver.imagesInUse.isEmpty && !folder.has("vms/7"))
    }
}
