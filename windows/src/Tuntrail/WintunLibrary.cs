using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;
using System.Security;
using System.Security.Cryptography.X509Certificates;
using Tuntrail.Native;

namespace Tuntrail
{
    /// <summary>Whether a wintun.dll may be loaded into a privileged process. Blocks on the disk; any thread.</summary>
    public static class WintunLibrary
    {
        /// <summary>Who signs Wintun, as the certificate's subject names it.</summary>
        private const string Publisher = "WireGuard LLC";

        // WINTRUST_ACTION_GENERIC_VERIFY_V2, and what WINTRUST_DATA is filled with.
        private static readonly Guid GenericVerify = new Guid("00aac56b-cd44-11d0-8cc2-00c04fc295ee");
        private const uint NoUserInterface = 2;
        private const uint ChooseFile = 1;
        private const uint StateVerify = 1;
        private const uint StateClose = 2;
        /// <summary>WTD_CACHE_ONLY_URL_RETRIEVAL: a VPN is started where there may be no network to ask.</summary>
        private const uint CacheOnly = 0x1000;

        /// <summary>
        /// Throws unless the path is a full one, WireGuard has signed the file, and only the system and administrators can change the file and
        /// its folder, or put another folder in its place. So nobody else can exchange it between this check and its use.
        /// </summary>
        /// <exception cref="SecurityException">It must not be loaded; the text says why.</exception>
        /// <exception cref="FileNotFoundException">There is no such file.</exception>
        public static void Check(string path)
        {
            if (!IsFullPath(path))
            {
                throw new SecurityException("\"" + path + "\" is not a full path, so Windows would look for it in several folders");
            }
            FileInfo file = new FileInfo(path);
            if (!file.Exists)
            {
                throw new FileNotFoundException(path + " is missing; get wintun.dll from wintun.net and ship it with the app", path);
            }
            RequireNobodyElse(path, ProtectedDirectory.OthersWhoCanWrite(file.GetAccessControl()));
            RequireNobodyElse(file.DirectoryName, ProtectedDirectory.OthersWhoCanWrite(file.Directory.GetAccessControl()));
            for (DirectoryInfo above = file.Directory.Parent; above != null; above = above.Parent)
            {
                RequireNobodyElse(above.FullName, ProtectedDirectory.OthersWhoCanReplace(above.GetAccessControl()));
            }
            int trust = VerifySignature(path);
            if (trust != 0)
            {
                throw new SecurityException(path + " has no valid signature (0x" + trust.ToString("x8") + "); get it from wintun.net");
            }
            string subject;
#pragma warning disable SYSLIB0057 // The only way to a file's signer; its successor loads certificates, not signed files.
            using (X509Certificate signer = X509Certificate.CreateFromSignedFile(path))
#pragma warning restore SYSLIB0057
            {
                subject = signer.Subject;
            }
            if (!IsPublisher(subject))
            {
                throw new SecurityException(path + " is signed by " + subject + ", not by " + Publisher + "; get it from wintun.net");
            }
        }

        /// <summary>Whether a certificate's subject has the publisher as its organisation, and not only somewhere in its text.</summary>
        internal static bool IsPublisher(string subject)
        {
            foreach (string line in new X500DistinguishedName(subject).Format(true).Split('\n'))
            {
                string part = line.Trim();
                if (part == "O=" + Publisher || part == "O=\"" + Publisher + "\"")
                {
                    return true;
                }
            }
            return false;
        }

        /// <summary>Drive and folder (C:\...), so that neither the current folder nor the search path matters. No network paths.</summary>
        internal static bool IsFullPath(string path)
        {
            return path != null && path.Length > 3 && char.IsLetter(path[0]) && path[1] == ':'
                && (path[2] == '\\' || path[2] == '/') && path.IndexOf("..", StringComparison.Ordinal) < 0;
        }

        private static void RequireNobodyElse(string path, IReadOnlyList<string> others)
        {
            if (others.Count > 0)
            {
                throw new SecurityException(path + " can be changed by " + string.Join(", ", others)
                    + "; install it where only administrators can write, such as in Program Files");
            }
        }

        private static int VerifySignature(string path)
        {
            WINTRUST_FILE_INFO file = new WINTRUST_FILE_INFO
            {
                cbStruct = (uint)Marshal.SizeOf(typeof(WINTRUST_FILE_INFO)),
                pcwszFilePath = path,
            };
            IntPtr pointer = Marshal.AllocHGlobal(Marshal.SizeOf(typeof(WINTRUST_FILE_INFO)));
            Marshal.StructureToPtr(file, pointer, false);
            try
            {
                WINTRUST_DATA data = new WINTRUST_DATA
                {
                    cbStruct = (uint)Marshal.SizeOf(typeof(WINTRUST_DATA)),
                    dwUIChoice = NoUserInterface,
                    dwUnionChoice = ChooseFile,
                    pFile = pointer,
                    dwStateAction = StateVerify,
                    dwProvFlags = CacheOnly,
                };
                Guid action = GenericVerify;
                int result = Functions.WinVerifyTrust(IntPtr.Zero, ref action, ref data);
                data.dwStateAction = StateClose;
                Functions.WinVerifyTrust(IntPtr.Zero, ref action, ref data);
                return result;
            }
            finally
            {
                Marshal.DestroyStructure(pointer, typeof(WINTRUST_FILE_INFO));
                Marshal.FreeHGlobal(pointer);
            }
        }
    }
}
