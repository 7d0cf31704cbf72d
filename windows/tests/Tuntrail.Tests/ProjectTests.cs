using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Xml;
using Xunit;

namespace Tuntrail.Tests
{
    /// <summary>The project files: what they name exists, and the package is laid out as NuGet wants it.</summary>
    public sealed class ProjectTests
    {
        private static readonly string Windows = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(ThisFile()), "..", ".."));

        [Fact]
        public void The_package_has_both_native_libraries_and_its_papers()
        {
            XmlDocument project = Load("src/Tuntrail/Tuntrail.csproj");
            SortedDictionary<string, string> packed = new SortedDictionary<string, string>(StringComparer.Ordinal);
            foreach (XmlElement item in project.SelectNodes("//None[@Pack='true']"))
            {
                string source = item.GetAttribute("Include");
                foreach (string place in item.GetAttribute("PackagePath").Split(';'))
                {
                    string path = (place.TrimEnd('/') + "/" + Path.GetFileName(source)).TrimStart('/');
                    packed.Add(path, source);
                }
                if (!source.Contains("/artifacts/"))
                {
                    Assert.True(File.Exists(Path.Combine(Windows, "src/Tuntrail", source)));
                }
            }
            Assert.Equal(
                "LICENSE README.md build/Tuntrail.targets buildTransitive/Tuntrail.targets "
                    + "runtimes/win-arm64/native/tuntrail_ffi.dll runtimes/win-x64/native/tuntrail_ffi.dll",
                string.Join(" ", packed.Keys));
            foreach (string architecture in new[] { "win-x64", "win-arm64" })
            {
                string place = "runtimes/" + architecture + "/native/tuntrail_ffi.dll";
                Assert.Equal("../../artifacts/" + place, packed[place]);
            }
            Assert.Equal("README.md", Text(project, "PackageReadmeFile"));
            Assert.Equal("LICENSE", Text(project, "PackageLicenseFile"));
        }

        [Fact]
        public void The_library_is_for_old_and_new_runtimes_and_says_nothing_of_the_machine_that_built_it()
        {
            XmlDocument project = Load("src/Tuntrail/Tuntrail.csproj");
            Assert.Equal("netstandard2.0;net8.0", Text(project, "TargetFrameworks"));
            Assert.Equal("7.3", Text(project, "LangVersion"));
            Assert.Equal("disable", Text(project, "Nullable"));
            Assert.Equal("true", Text(project, "Deterministic"));
            Assert.Equal("false", Text(project, "EnableSourceLink"));
        }

        [Fact]
        public void The_version_is_that_of_the_workspace()
        {
            string workspace = File.ReadAllText(Path.Combine(Windows, "../Cargo.toml"));
            Assert.Contains("\nversion = \"" + Text(Load("src/Tuntrail/Tuntrail.csproj"), "Version") + "\"", workspace);
        }

        [Fact]
        public void What_projects_refer_to_exists_and_the_solution_has_them_all()
        {
            string solution = File.ReadAllText(Path.Combine(Windows, "Tuntrail.sln"));
            string[] projects = { "src/Tuntrail/Tuntrail.csproj", "tests/Tuntrail.Tests/Tuntrail.Tests.csproj", "samples/Service/Service.csproj" };
            foreach (string path in projects)
            {
                Assert.Contains("\"" + path.Replace('/', '\\') + "\"", solution);
                string folder = Path.GetDirectoryName(Path.Combine(Windows, path));
                foreach (XmlElement item in Load(path).SelectNodes("//ProjectReference | //Compile[@Link]"))
                {
                    Assert.True(File.Exists(Path.Combine(folder, item.GetAttribute("Include"))));
                }
            }
            Assert.Equal(projects.Length, solution.Split('\n').Count(line => line.StartsWith("Project(", StringComparison.Ordinal)));
        }

        [Fact]
        public void Apps_for_the_net_framework_get_a_copy_of_the_library_that_the_package_has()
        {
            XmlDocument targets = Load("src/Tuntrail/build/Tuntrail.targets");
            XmlElement copied = (XmlElement)targets.SelectSingleNode("//None");
            // Seen from build/, where the file is in the package.
            Assert.Equal(
                "$(MSBuildThisFileDirectory)../runtimes/$(TuntrailRuntime)/native/tuntrail_ffi.dll", copied.GetAttribute("Include"));
            Assert.Equal("PreserveNewest", Text(targets, "CopyToOutputDirectory"));
        }

        private static XmlDocument Load(string path)
        {
            XmlDocument document = new XmlDocument { XmlResolver = null };
            document.Load(Path.Combine(Windows, path));
            return document;
        }

        private static string Text(XmlDocument document, string name)
        {
            return document.SelectSingleNode("//" + name).InnerText;
        }

        private static string ThisFile([CallerFilePath] string path = "")
        {
            return path;
        }
    }
}
