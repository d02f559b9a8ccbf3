import Foundation
import Testing

/// Images that are added on one node, and that VMs on others begin with.
@Suite(.serialized) struct ImageTests {
    private static let bytes = 3 << 20

    private func write(_ cluster: LocalCluster, _ name: String, seed: UInt8) throws -> (path: String, data: Data) {
        var data = Data(count: ImageTests.bytes)
        var state = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15
        for i in data.indices {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            data[i] = UInt8(truncatingIfNeeded: state >> 33)
        }
        let url = cluster.folder.file(name)
        try data.write(to: url)
        return (url.path, data)
    }

    private func file(_ cluster: LocalCluster, _ node: Int, _ digest: String) -> URL {
        cluster.folder.file("n\(node)/images/\(digest)")
    }

    private func digest(_ run: MusterRun) throws -> String {
        let text = run.output + run.complaint
        let found = text.firstRange(of: try Regex("[0-9a-f]{64}"))
        return String(text[try #require(found, "\(text)")])
    }

    private func keepers(_ cluster: LocalCluster, _ image: String) throws -> Int {
        let shown = try cluster.ask(2, "image", "show", image, "-o", "json").output
        return ["n1", "n2", "n3"].count { shown.contains("\"\($0)\"") }
    }

    private func create(_ cluster: LocalCluster, _ name: String, _ image: String, _ words: String...) throws
        -> MusterRun
    {
        try cluster.run(
            [
                "vm", "create", name, "--cpu", "1", "--memory", "64MiB", "--annotation", "sim.boot-ms=20", "--disk",
                "size=4MiB,kind=ephemeral,image=\(image)",
            ] + words, at: 1)
    }

    @Test
    func `a VM on another node begins with the image that was added on one, whatever was damaged or broken off`() throws
    {
        let cluster = try LocalCluster({ _, node in node == 3 ? ["--hypervisor-image-cache", "4MiB"] : [] })
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        let (path, data) = try write(cluster, "debian.raw", seed: 1)
        let name = try digest(cluster.ask(1, "image", "add", "probe", path, "-o", "json"))
        // None of it is still on its way when what there is of it is made another thing.
        try cluster.wait("three keep it") { try keepers(cluster, "probe") == 3 }
        #expect(try cluster.ask(1, "image", "remove", "probe").status == 0)
        for node in [2, 3] {
            #expect(try !cluster.ask(node, "image", "list").output.contains("probe"))
            try FileManager.default.removeItem(at: file(cluster, node, name))
        }
        // One node has had the first third of it, another the wrong bytes.
        try data.prefix(1 << 20).write(to: file(cluster, 2, name + ".part"))
        try Data(count: 1 << 20).write(to: file(cluster, 3, name + ".part"))

        let added = try cluster.ask(1, "image", "add", "debian", path, "--tenant", "shop", "-o", "json")
        #expect(added.status == 0, "\(added.complaint)")
        #expect(try digest(added) == name)
        let shared = try cluster.ask(1, "image", "add", "debian", path, "--shared")
        #expect(shared.status == 0, "\(shared.complaint)")
        try cluster.wait("three keep it") { try keepers(cluster, "debian") == 3 }
        for node in 1...3 { #expect(try Data(contentsOf: file(cluster, node, name)) == data) }
        // It goes on where it stopped; what came to the other one has another hash.
        try cluster.waitForLog(2, "offset=\(1 << 20)")
        try cluster.waitForLog(3, "came damaged")

        let made = try create(cluster, "a", "debian", "--zone", "zone-2", "--wait")
        #expect(made.status == 0, "\(made.complaint)")
        #expect(try cluster.hosts(ofVMs: "a") == ["n2"])
        try isDamaged(cluster, name, data)
        try isRefused(cluster)
        try isProven(cluster)
        try isBounded(cluster, name)
    }

    /// A byte on the host's disk is another one: that is noticed before the next start.
    private func isDamaged(_ cluster: LocalCluster, _ name: String, _ data: Data) throws {
        let handle = try FileHandle(forUpdating: file(cluster, 2, name))
        try handle.seek(toOffset: 1_000_000)
        try handle.write(contentsOf: Data([data[1_000_000] ^ 1]))
        try handle.close()
        #expect(try Data(contentsOf: file(cluster, 2, name)) != data)
        let again = try cluster.ask(1, "vm", "restart", "a", "--wait")
        #expect(again.status == 0, "\(again.complaint)")
        try cluster.waitForLog(2, "was damaged")
        #expect(try Data(contentsOf: file(cluster, 2, name)) == data)
    }

    private func isRefused(_ cluster: LocalCluster) throws {
        let used = try cluster.ask(3, "image", "remove", "debian", "--shared")
        #expect(used.status == 4 && used.complaint.contains("VM a"), "\(used.complaint)")
        // It was not harmed by that, and the tenant's own of that name goes, since no VM of the tenant names it.
        #expect(try cluster.ask(2, "image", "list", "-o", "json").output.contains("\"leaving\":false"))
        let own = try cluster.ask(3, "image", "remove", "debian", "--tenant", "shop")
        #expect(own.status == 0, "\(own.complaint)")
        #expect(try cluster.ask(1, "image", "remove", "nothing").status == 3)

        let other = try write(cluster, "other.raw", seed: 2)
        let taken = try cluster.ask(1, "image", "add", "debian", other.path, "--shared")
        #expect(taken.status == 4 && taken.complaint.contains("there already"), "\(taken.complaint)")
        let small = try cluster.ask(
            1, "vm", "create", "x", "--cpu", "1", "--memory", "64MiB", "--disk", "size=1MiB,kind=local,image=debian")
        #expect(small.status != 0 && small.complaint.contains("MiB"), "\(small.complaint)")
        let inner = try create(cluster, "x", "sha256-00")
        #expect(inner.status != 0 && inner.complaint.contains("own name"), "\(inner.complaint)")

        // A tenant's writer adds what is the tenant's, and nothing of everybody's.
        #expect(try cluster.ask(1, "tenant", "set", "shop").status == 0)
        let made = try cluster.shell(
            "curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem -H content-type:application/json "
                + "-d '{\"kind\":\"api\",\"role\":\"tenant:shop:write\"}' https://$MUSTER_ADDRESS/v1/tokens", at: 1
        ).output
        let token = String(try #require(made.firstRange(of: try Regex("mst_[0-9a-f]+")).map { made[$0] }, "\(made)"))
        func status(_ method: String, _ path: String) throws -> String {
            try cluster.shell(
                "curl -sk -o /dev/null -w '%{http_code}' -X \(method) -H 'authorization: Bearer \(token)' "
                    + "\"https://$MUSTER_ADDRESS/\(path)\"", at: 2
            ).output
        }
        // Another node looks for it before it refuses.
        #expect(try status("GET", "v1/images") == "200")
        #expect(try status("DELETE", "v1/images/debian?shared=1") == "403")
        #expect(try status("DELETE", "v1/images/debian?tenant=default") == "403")
        #expect(try status("DELETE", "v1/images/debian?tenant=shop") == "404")
    }

    /// Who knows the hash of another tenant's image and nothing else gets nothing; who began to send goes on or is forgotten.
    private func isProven(_ cluster: LocalCluster) throws {
        let third = try write(cluster, "third.raw", seed: 3)
        let name = try digest(cluster.ask(1, "image", "add", "own", third.path, "--tenant", "shop", "-o", "json"))
        #expect(try cluster.ask(1, "tenant", "set", "bank").status == 0)
        let made = try cluster.shell(
            "curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem -H content-type:application/json "
                + "-d '{\"kind\":\"api\",\"role\":\"tenant:bank:write\"}' https://$MUSTER_ADDRESS/v1/tokens", at: 1
        ).output
        let token = String(try #require(made.firstRange(of: try Regex("mst_[0-9a-f]+")).map { made[$0] }, "\(made)"))
        func post(_ path: String, _ body: String) throws -> String {
            try cluster.shell(
                "curl -sk -H 'authorization: Bearer \(token)' -H content-type:application/json -d '\(body)' "
                    + "\"https://$MUSTER_ADDRESS/v1/images\(path)\"", at: 1
            ).output
        }
        func part(_ bytes: String, tenant: String = "bank") throws -> String {
            try post(
                "/parts", "{\"sha256\":\"\(name)\",\"tenant\":\"\(tenant)\",\"offset\":0,\"bytes\":\"\(bytes)\"}")
        }
        func claim() throws -> String {
            try post("", "{\"name\":\"stolen\",\"tenant\":\"bank\",\"sha256\":\"\(name)\"}")
        }
        let empty = try part("")
        #expect(empty.contains("\"received\":0"), "\(empty)")
        #expect(try part("", tenant: "shop").contains("\"status\":403"))
        #expect(try claim().contains("none of the image's bytes are here"))
        #expect(try part("AAAA").contains("\"received\":3"))
        let upload = file(cluster, 1, name + ".bank.up")
        #expect(try Data(contentsOf: upload) == Data(count: 3))
        #expect(try claim().contains("have another SHA-256"))
        #expect(!FileManager.default.fileExists(atPath: upload.path))
        #expect(try claim().contains("none of the image's bytes"))
        let listed = try cluster.ask(2, "image", "list", "-o", "json").output
        #expect(listed.contains("\"own\"") && !listed.contains("stolen"))

        // Nobody goes on with it for longer than an hour.
        #expect(try part("AAAA").contains("\"received\":3"))
        let old = Date(timeIntervalSinceNow: -3_700)
        try FileManager.default.setAttributes([.modificationDate: old], ofItemAtPath: upload.path)
        try cluster.wait("the upload is forgotten") { !FileManager.default.fileExists(atPath: upload.path) }

        // Who may see it names it again without sending it, at a node that has no copy, too.
        let again = try cluster.ask(2, "image", "add", "again", third.path, "--tenant", "bank")
        #expect(again.status == 0, "\(again.complaint)")
        #expect(try post("", "{\"name\":\"mine\",\"tenant\":\"bank\",\"sha256\":\"\(name)\"}").contains("\"mine\""))
        for (image, tenant) in [("again", "bank"), ("mine", "bank"), ("own", "shop")] {
            let removed = try cluster.ask(3, "image", "remove", image, "--tenant", tenant)
            #expect(removed.status == 0, "\(removed.complaint)")
        }
    }

    /// A node's room for images has a bound: what nobody needs makes way, and what is needed does not.
    private func isBounded(_ cluster: LocalCluster, _ name: String) throws {
        // What the third node keeps for the others takes its room.
        #expect(FileManager.default.fileExists(atPath: file(cluster, 3, name).path))
        let other = cluster.folder.file("other.raw").path
        let added = try cluster.ask(1, "image", "add", "other", other)
        #expect(added.status == 0, "\(added.complaint)")
        let second = try digest(try cluster.ask(1, "image", "show", "other", "-o", "json"))
        let made = try create(cluster, "b", "other", "--zone", "zone-3")
        #expect(made.status == 0, "\(made.complaint)")
        try cluster.wait("there is no room for it") {
            try cluster.ask(1, "vm", "show", "b", "-o", "json").output.contains("does not fit")
        }
        #expect(try cluster.ask(1, "vm", "delete", "a", "--wait").status == 0)
        let removed = try cluster.ask(2, "image", "remove", "debian", "--shared")
        #expect(removed.status == 0, "\(removed.complaint)")
        try cluster.wait("the other one has made way") {
            try cluster.ask(1, "vm", "show", "b", "-o", "json").output.contains("\"phase\":\"running\"")
        }
        #expect(!FileManager.default.fileExists(atPath: file(cluster, 3, name).path))
        #expect(FileManager.default.fileExists(atPath: file(cluster, 3, second).path))
    }
}

/// Images on a node that is alone.
@Suite(.serialized) struct LoneImageTests {
    @Test
    func `an image whose bytes are lost is added again under its name, and no disk is smaller than the disk in it`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.wait("the host has reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 1
        }
        let path = cluster.folder.file("debian.raw")
        try Data((0..<(2 << 20)).map { UInt8(truncatingIfNeeded: $0 / 251) }).write(to: path)
        let added = try cluster.ask(1, "image", "add", "debian", path.path, "-o", "json")
        #expect(added.status == 0 && added.output.contains("\"format\":\"raw\""), "\(added.complaint)\(added.output)")
        let digest = String(
            added.output[try #require(added.output.firstRange(of: try Regex("[0-9a-f]{64}")), "\(added.output)")])
        let file = cluster.folder.file("n1/images/\(digest)")
        try FileManager.default.removeItem(at: file)
        try cluster.wait("nobody keeps it") {
            try cluster.ask(1, "image", "show", "debian", "-o", "json").output.contains("\"holders\":[]")
        }
        func create(_ name: String, _ disk: String) throws -> MusterRun {
            try cluster.ask(
                1, "vm", "create", name, "--cpu", "1", "--memory", "64MiB", "--annotation", "sim.boot-ms=20", "--disk",
                disk)
        }
        #expect(try create("a", "size=4MiB,kind=local,image=debian").status == 0)
        try cluster.wait("the VM says what it waits for") {
            try cluster.ask(1, "vm", "show", "a", "-o", "json").output.contains("no node keeps a copy of it")
        }
        let again = try cluster.ask(1, "image", "add", "debian", path.path)
        #expect(again.status == 0, "\(again.complaint)")
        #expect(try Data(contentsOf: file) == Data(contentsOf: path))
        #expect(try cluster.ask(1, "image", "show", "debian", "-o", "json").output.contains("\"n1\""))
        try cluster.wait("the VM runs") {
            try cluster.ask(1, "vm", "show", "a", "-o", "json").output.contains("\"phase\":\"running\"")
        }

        // Few bytes, and a disk of 10 GiB in them.
        var head = Data(count: 4_096)
        head.replaceSubrange(0..<8, with: [0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3])
        head.replaceSubrange(24..<32, with: [0, 0, 0, 2, 0x80, 0, 0, 0])
        let large = cluster.folder.file("large.qcow2")
        try head.write(to: large)
        #expect(try cluster.ask(1, "image", "add", "large", large.path).status == 0)
        let small = try create("b", "name=root,size=1GiB,kind=local,image=large")
        #expect(small.status == 2, "\(small.status)")
        #expect(small.complaint.contains("10240 MiB") && small.complaint.contains("1024 MiB"), "\(small.complaint)")
        // One that needs another file is no image.
        head[15] = 200
        try head.write(to: large)
        let needy = try cluster.ask(1, "image", "add", "needy", large.path)
        #expect(needy.status == 4 && needy.complaint.contains("stands alone"), "\(needy.complaint)")

        let joins = try cluster.ask(1, "audit", "--root", "-o", "json").output
        #expect(joins.contains("image.added"))
    }
}

/// Images under real QEMU processes on several hosts.
@Suite(.serialized, .enabled(if: MachineOfQEMU.isHere, "there is no QEMU (Debian: qemu-system-x86, qemu-utils)"))
struct GuestImageTests {
    @Test
    func `a guest begins with an image that its host pulls, and a shared disk that one host made goes on at another`()
        throws
    {
        let cluster = try LocalCluster { folder, _ in
            try? FileManager.default.createDirectory(
                at: folder.file("storage/fast"), withIntermediateDirectories: true)
            return [
                "--hypervisor-driver", "qemu", "--hypervisor-images", folder.url.path, "--hypervisor-storage",
                folder.file("storage").path, "--host-storage-domains", "fast",
            ]
        }
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        let file = cluster.folder.file("base.img")
        try Data((0..<(2 << 20)).map { UInt8(truncatingIfNeeded: $0 / 509) }).write(to: file)
        let added = try cluster.ask(1, "image", "add", "base", file.path, "-o", "json")
        #expect(added.status == 0, "\(added.complaint)")
        let text = added.output
        let digest = String(text[try #require(text.firstRange(of: try Regex("[0-9a-f]{64}")), "\(text)")])
        func create(_ name: String, _ disk: String, _ words: String...) throws {
            let made = try cluster.run(
                ["vm", "create", name, "--cpu", "1", "--memory", "32MiB", "--disk", disk, "--wait"] + words, at: 1)
            let shown = try cluster.ask(1, "vm", "show", name, "-o", "json").output
            #expect(made.status == 0, "\(made.complaint)\(shown)")
        }
        func info(_ path: String) throws -> String {
            try cluster.shell("qemu-img info -U --output=json \(path)", at: 1).output
        }
        try create("own", "name=root,size=8MiB,kind=ephemeral,image=base", "--zone", "zone-3")
        #expect(try cluster.hosts(ofVMs: "own") == ["n3"])
        let pulled = cluster.folder.file("n3/images/\(digest)")
        #expect(try Data(contentsOf: pulled) == Data(contentsOf: file))
        let vms = cluster.folder.file("n3/vms").path
        #expect(cluster.others(with: vms, program: "qemu").count == 1)
        let overlay = try cluster.shell("ls \(vms)/*/ephemeral-root.qcow2", at: 1).output
        #expect(try info(overlay.trimmingCharacters(in: .whitespacesAndNewlines)).contains(pulled.path))

        try create("common", "name=root,size=8MiB,kind=shared:fast,image=base")
        let folder = cluster.folder.file("storage/fast")
        let disks = try files(folder)
        #expect(disks.count == 1 && disks[0].hasSuffix("-root.qcow2"), "\(disks)")
        let disk = folder.appendingPathComponent(disks[0]).path
        let shown = try info(disk)
        #expect(shown.contains("\"virtual-size\": 8388608") && !shown.contains("backing"), "\(shown)")
        let back = cluster.folder.file("back.img")
        _ = try cluster.shell("qemu-img convert -U -O raw \(disk) \(back.path)", at: 1)
        #expect(try Data(contentsOf: back).prefix(2 << 20) == Data(contentsOf: file))
        let inode = try FileManager.default.attributesOfItem(atPath: disk)[.systemFileNumber] as? Int
        let host = try #require(try cluster.hosts(ofVMs: "common").first)
        let drained = try cluster.ask(1, "host", "drain", host)
        #expect(drained.status == 0, "\(drained.complaint)")
        try cluster.wait("it runs elsewhere") {
            let now = try cluster.hosts(ofVMs: "common")
            let running = try cluster.names(1, "vm", "list", "--filter", "phase=running")
            return now.count == 1 && now != [host] && running.contains("common")
        }
        let now = try FileManager.default.attributesOfItem(atPath: disk)[.systemFileNumber] as? Int
        #expect(now == inode)
        #expect(try files(folder) == disks)
        try leave(cluster, folder, disks, create)
    }

    /// All but the domain's mark.
    private func files(_ folder: URL) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0 != ".muster-domain" }
    }

    /// The shared disk of a VM that is gone goes with it, and one that is to be kept stays and is listed.
    private func leave(
        _ cluster: LocalCluster, _ folder: URL, _ disks: [String], _ create: (String, String, String...) throws -> Void
    ) throws {
        func files() throws -> [String] { try self.files(folder) }
        try create("kept", "name=data,size=4MiB,kind=shared:fast,keep")
        let kept = try files().filter { !disks.contains($0) }
        #expect(kept.count == 1 && kept[0].hasSuffix("-data.raw"), "\(kept)")
        for name in ["common", "kept"] {
            let deleted = try cluster.ask(2, "vm", "delete", name, "--wait")
            #expect(deleted.status == 0, "\(deleted.complaint)")
        }
        try cluster.wait("only the kept disk is left") { try files() == kept }
        var listed = ""
        try cluster.wait("nothing else is to be removed") {
            listed = try cluster.ask(3, "remains", "list", "-o", "json").output
            return !listed.contains("fast/root")
        }
        #expect(listed.contains("fast/data") && listed.contains("\"kept\""), "\(listed)")
        let number = String(try #require(kept[0].split(separator: "-").dropFirst().first))
        let wrong = try cluster.ask(3, "remains", "forget", "12345")
        #expect(wrong.status == 3, "\(wrong.complaint)")
        let forgotten = try cluster.ask(3, "remains", "forget", number)
        #expect(forgotten.status == 0, "\(forgotten.complaint)")
        #expect(try !cluster.ask(3, "remains", "list", "-o", "json").output.contains("fast/data"))
        #expect(try files() == kept)
    }
}
