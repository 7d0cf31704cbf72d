using System;
using System.Collections.Generic;
using System.IO;
using System.Security;
using System.Security.AccessControl;
using System.Security.Principal;

namespace Tuntrail
{
    /// <summary>
    /// Folders that only the system and administrators can use, for a service's records and for libraries that it loads. Windows
    /// lets every user make folders below %ProgramData%, so a service must not trust one that it finds there.
    /// </summary>
    public static class ProtectedDirectory
    {
        /// <summary>Who the system itself installs files as.</summary>
        private static readonly SecurityIdentifier TrustedInstaller =
            new SecurityIdentifier("S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464");

        private const FileSystemRights Write = FileSystemRights.WriteData | FileSystemRights.AppendData
            | FileSystemRights.WriteExtendedAttributes | FileSystemRights.WriteAttributes | FileSystemRights.Delete
            | FileSystemRights.DeleteSubdirectoriesAndFiles | FileSystemRights.ChangePermissions | FileSystemRights.TakeOwnership;
        /// <summary>What puts another folder in the place of one.</summary>
        private const FileSystemRights Replace = FileSystemRights.Delete | FileSystemRights.DeleteSubdirectoriesAndFiles
            | FileSystemRights.ChangePermissions | FileSystemRights.TakeOwnership;
        /// <summary>GENERIC_WRITE and GENERIC_ALL, which rules may hold unmapped.</summary>
        private const int GenericWrite = 0x50000000;

        /// <summary>
        /// Makes the folder, with full control for SYSTEM and the administrators, nothing for anybody else, and nothing inherited. One that is
        /// there already gets the same rules, if it is a real folder that the system or the administrators own, and so is everything in it:
        /// before it had its rules, others may have put links or their own files there. Run elevated.
        /// </summary>
        /// <exception cref="SecurityException">Somebody else owns the folder or something in it, or there is a link: somebody put it there.
        /// </exception>
        public static DirectoryInfo Create(string path)
        {
            DirectoryInfo folder = new DirectoryInfo(path);
            if (!folder.Exists)
            {
                // With its rules from the first moment; it fails, rather than opens a gap, if somebody is faster.
                CreateWith(folder, Rules());
                folder.Refresh();
            }
            RefuseOthers(folder, OwnerOf);
            folder.SetAccessControl(Rules());
            // After that nobody can add anything. At each start, as it must not be enough to start again.
            RefuseOthersIn(folder, OwnerOf);
            return folder;
        }

        /// <summary>Throws if there is a link in the folder, or something that neither the system nor the administrators own.</summary>
        internal static void RefuseOthersIn(DirectoryInfo folder, Func<FileSystemInfo, IdentityReference> ownerOf)
        {
            foreach (FileSystemInfo entry in folder.EnumerateFileSystemInfos())
            {
                try
                {
                    RefuseOthers(entry, ownerOf);
                    DirectoryInfo below = entry as DirectoryInfo;
                    if (below != null)
                    {
                        RefuseOthersIn(below, ownerOf);
                    }
                }
                catch (Exception error) when (error is FileNotFoundException || error is DirectoryNotFoundException)
                {
                    // It is gone meanwhile.
                }
            }
        }

        private static void RefuseOthers(FileSystemInfo entry, Func<FileSystemInfo, IdentityReference> ownerOf)
        {
            if ((entry.Attributes & FileAttributes.ReparsePoint) != 0)
            {
                throw new SecurityException(entry.FullName + " is a link; remove it");
            }
            IdentityReference owner = ownerOf(entry);
            if (!IsTrusted(owner))
            {
                throw new SecurityException(entry.FullName + " belongs to " + owner + ", who may have put anything in it; remove it");
            }
        }

        private static IdentityReference OwnerOf(FileSystemInfo entry)
        {
            DirectoryInfo folder = entry as DirectoryInfo;
            FileSystemSecurity security = folder == null
                ? (FileSystemSecurity)((FileInfo)entry).GetAccessControl(AccessControlSections.Owner)
                : folder.GetAccessControl(AccessControlSections.Owner);
            return security.GetOwner(typeof(SecurityIdentifier));
        }

        /// <summary>The rules of <see cref="Create"/>.</summary>
        public static DirectorySecurity Rules()
        {
            DirectorySecurity rules = new DirectorySecurity();
            rules.SetAccessRuleProtection(true, false);
            rules.SetOwner(Administrators);
            foreach (SecurityIdentifier who in new[] { LocalSystem, Administrators })
            {
                rules.AddAccessRule(new FileSystemAccessRule(
                    who,
                    FileSystemRights.FullControl,
                    InheritanceFlags.ContainerInherit | InheritanceFlags.ObjectInherit,
                    PropagationFlags.None,
                    AccessControlType.Allow));
            }
            return rules;
        }

        /// <summary>Who, other than the system and administrators, can change what the rules protect; empty if nobody.</summary>
        public static IReadOnlyList<string> OthersWhoCanWrite(FileSystemSecurity security)
        {
            return Others(security, Write);
        }

        /// <summary>Who, other than the system and administrators, can move away what is in a folder; empty if nobody.</summary>
        public static IReadOnlyList<string> OthersWhoCanReplace(FileSystemSecurity security)
        {
            return Others(security, Replace);
        }

        private static IReadOnlyList<string> Others(FileSystemSecurity security, FileSystemRights rights)
        {
            if (security == null)
            {
                throw new ArgumentNullException(nameof(security));
            }
            List<string> others = new List<string>();
            IdentityReference owner = security.GetOwner(typeof(SecurityIdentifier));
            if (owner != null && !IsTrusted(owner))
            {
                // An owner can change the rules.
                others.Add(owner.Value);
            }
            foreach (FileSystemAccessRule rule in security.GetAccessRules(true, true, typeof(SecurityIdentifier)))
            {
                bool writes = (rule.FileSystemRights & rights) != 0 || ((int)rule.FileSystemRights & GenericWrite) != 0;
                // Rules that only what is made later inherits say nothing about this folder.
                bool here = (rule.PropagationFlags & PropagationFlags.InheritOnly) == 0;
                if (writes && here && rule.AccessControlType == AccessControlType.Allow
                    && !IsTrusted(rule.IdentityReference) && !others.Contains(rule.IdentityReference.Value))
                {
                    others.Add(rule.IdentityReference.Value);
                }
            }
            return others;
        }

        private static SecurityIdentifier LocalSystem
        {
            get { return new SecurityIdentifier(WellKnownSidType.LocalSystemSid, null); }
        }

        private static SecurityIdentifier Administrators
        {
            get { return new SecurityIdentifier(WellKnownSidType.BuiltinAdministratorsSid, null); }
        }

        private static bool IsTrusted(IdentityReference who)
        {
            return who != null && (who.Equals(LocalSystem) || who.Equals(Administrators) || who.Equals(TrustedInstaller));
        }

        private static void CreateWith(DirectoryInfo folder, DirectorySecurity rules)
        {
#if NETFRAMEWORK
            folder.Create(rules);
#else
            FileSystemAclExtensions.Create(folder, rules);
#endif
        }
    }
}
