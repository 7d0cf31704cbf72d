using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Security;
using System.Security.AccessControl;
using System.Security.Principal;
using Xunit;

namespace Tuntrail.Tests
{
    public sealed class ProtectionTests
    {
        [AccessRulesFact]
        public void A_protected_folder_is_the_systems_and_the_administrators_only()
        {
            string rules = ProtectedDirectory.Rules().GetSecurityDescriptorSddlForm(
                AccessControlSections.Access | AccessControlSections.Owner);
            Assert.Equal("O:BAD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)", rules.Replace("D:P(", "D:PAI("));
            Assert.Equal(0, ProtectedDirectory.OthersWhoCanWrite(ProtectedDirectory.Rules()).Count);
        }

        [AccessRulesFact]
        public void Who_else_can_write_is_found()
        {
            // Everybody may make files; a user owns it; users may read; what is denied is not granted.
            Assert.Equal("S-1-1-0", Others("S-1-5-32-544", "D:(A;OICI;FA;;;SY)(A;;0x2;;;WD)"));
            Assert.Equal("S-1-5-11", Others("S-1-5-18", "D:(A;;SD;;;AU)"));
            Assert.Equal("S-1-5-32-545", Others("S-1-5-32-544", "D:(A;;GA;;;BU)"));
            Assert.Equal("S-1-5-21-1-2-3-1001", Others("S-1-5-21-1-2-3-1001", "D:(A;;FA;;;SY)"));
            Assert.Equal("", Others("S-1-5-32-544", "D:(A;;0x1200a9;;;BU)"));
            Assert.Equal("", Others("S-1-5-32-544", "D:(D;;FA;;;BU)(A;;FA;;;BA)"));
        }

        [AccessRulesFact]
        public void Rules_of_installed_files_and_those_for_later_files_are_no_danger()
        {
            const string trustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
            Assert.Equal("", Others(trustedInstaller, "D:(A;;FA;;;" + trustedInstaller + ")(A;OICIIO;GA;;;CO)"));
        }

        [AccessRulesFact]
        public void Who_may_only_add_folders_cant_replace_one()
        {
            // As on C:, where users may make folders, which then are theirs.
            DirectorySecurity root = Security("S-1-5-18", "D:(A;OICI;FA;;;BA)(A;;0x4;;;AU)(A;OICIIO;0x1301bf;;;AU)");
            Assert.Equal(0, ProtectedDirectory.OthersWhoCanReplace(root).Count);
            Assert.Equal(1, ProtectedDirectory.OthersWhoCanWrite(root).Count);
            // As on a data drive.
            DirectorySecurity data = Security("S-1-5-18", "D:(A;OICI;FA;;;BA)(A;OICI;0x1301bf;;;AU)");
            Assert.Equal("S-1-5-11", string.Join(" ", ProtectedDirectory.OthersWhoCanReplace(data)));
        }

        [AccessRulesFact]
        public void What_others_have_put_into_a_folder_is_refused()
        {
            SecurityIdentifier system = new SecurityIdentifier(WellKnownSidType.LocalSystemSid, null);
            SecurityIdentifier user = new SecurityIdentifier("S-1-5-21-1-2-3-1001");
            DirectoryInfo folder = Directory.CreateDirectory(Path.Combine(Path.GetTempPath(), "tuntrail-" + Guid.NewGuid().ToString("N")));
            try
            {
                string deep = Path.Combine(folder.FullName, "records", "segments");
                Directory.CreateDirectory(deep);
                string file = Path.Combine(deep, "1.log");
                File.WriteAllText(file, "");
                ProtectedDirectory.RefuseOthersIn(folder, entry => system);

                SecurityException error = Assert.Throws<SecurityException>(
                    () => ProtectedDirectory.RefuseOthersIn(folder, entry => entry.FullName == file ? user : system));
                Assert.Contains("1.log belongs to S-1-5-21-1-2-3-1001", error.Message);
                error = Assert.Throws<SecurityException>(
                    () => ProtectedDirectory.RefuseOthersIn(folder, entry => entry.FullName == deep ? null : system));
                Assert.Contains("segments belongs to", error.Message);
            }
            finally
            {
                folder.Delete(true);
            }
        }

        [LinuxFact]
        public void A_link_in_a_folder_is_refused_and_not_followed()
        {
            DirectoryInfo folder = Directory.CreateDirectory(Path.Combine(Path.GetTempPath(), "tuntrail-" + Guid.NewGuid().ToString("N")));
            string link = Path.Combine(folder.FullName, "records");
            try
            {
                Assert.Equal(0, symlink("/proc/self", link));
                SecurityException error = Assert.Throws<SecurityException>(() => ProtectedDirectory.RefuseOthersIn(
                    folder, entry => { throw new InvalidOperationException("asked for the owner of " + entry.FullName); }));
                Assert.Contains("records is a link", error.Message);
            }
            finally
            {
                File.Delete(link);
                folder.Delete();
            }
        }

        [Fact]
        public void Only_a_full_path_on_a_drive_is_one()
        {
            Assert.True(WintunLibrary.IsFullPath(@"C:\Program Files\Example\wintun.dll"));
            foreach (string path in new[] { null, "", "wintun.dll", @"\wintun.dll", @"C:wintun.dll", @"..\wintun.dll",
                @"\\server\share\wintun.dll", @"C:\Program Files\..\Users\wintun.dll", @"\\?\C:\wintun.dll" })
            {
                Assert.False(WintunLibrary.IsFullPath(path));
                Assert.Throws<System.Security.SecurityException>(() => WintunLibrary.Check(path));
            }
        }

        [Fact]
        public void The_publisher_is_the_organisation_and_not_a_part_of_a_name()
        {
            Assert.True(WintunLibrary.IsPublisher("CN=WireGuard LLC, O=WireGuard LLC, L=Boulder, C=US"));
            Assert.False(WintunLibrary.IsPublisher("CN=WireGuard LLC, O=Somebody, C=US"));
            Assert.False(WintunLibrary.IsPublisher("CN=\"x, O=WireGuard LLC\", O=Somebody, C=US"));
        }

        [DllImport("libc", SetLastError = true)]
        private static extern int symlink(string target, string path);

        private static string Others(string owner, string rules)
        {
            return string.Join(" ", ProtectedDirectory.OthersWhoCanWrite(Security(owner, rules)));
        }

        private static DirectorySecurity Security(string owner, string rules)
        {
            DirectorySecurity security = new DirectorySecurity();
            security.SetSecurityDescriptorSddlForm(rules);
            security.SetOwner(new SecurityIdentifier(owner));
            return security;
        }
    }
}
