import Testing

@Suite struct TidyTests {
    @Test(arguments: Tidy.rules)
    func `the house keeps its rules`(tidy: Tidy) throws {
        for finding in tidy.check(try House.mine.get()) {
            Issue.record("\(tidy.promise): \(finding)")
        }
    }

    @Test func `tidy read the whole house`() throws {
        let house = try House.mine.get()
        #expect(house.rooms.contains { $0.name == "RaftCore" && $0.isPure && $0.products == ["RaftCore"] })
        #expect(house.rooms.contains { $0.name == "muster" && $0.isExecutable && !$0.isPure })
        #expect(house.sources.count > 5)
        #expect(house.pureSources.contains { $0.0.path == "Sources/Base/ClusterBase/PRNG.swift" })
        #expect(house.texts[".ci/run"] != nil)
        #expect(house.texts.keys.allSatisfy { !$0.contains(".build/") })
    }
}
