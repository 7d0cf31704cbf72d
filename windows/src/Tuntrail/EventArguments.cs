using System;

namespace Tuntrail
{
    /// <summary>How far an upload has come.</summary>
    public sealed class UploadProgressEventArgs : EventArgs
    {
        internal UploadProgressEventArgs(ulong upload, UploadProgress progress)
        {
            Upload = upload;
            Progress = progress;
        }

        /// <summary>Which upload, as <see cref="Tuntrail.Upload.Id"/> has it.</summary>
        public ulong Upload { get; }

        /// <summary>How far.</summary>
        public UploadProgress Progress { get; }
    }

    /// <summary>How an upload ended.</summary>
    public sealed class UploadEndedEventArgs : EventArgs
    {
        internal UploadEndedEventArgs(UploadReport report)
        {
            Report = report;
        }

        /// <summary>The result.</summary>
        public UploadReport Report { get; }
    }

    /// <summary>Which peer.</summary>
    public sealed class PeerEventArgs : EventArgs
    {
        internal PeerEventArgs(string publicKey)
        {
            PublicKey = publicKey;
        }

        /// <summary>Its public key in base64.</summary>
        public string PublicKey { get; }
    }

    /// <summary>What came of a debug upload.</summary>
    public sealed class DebugReport
    {
        internal DebugReport(string marker, UploadReport report)
        {
            Marker = marker;
            Report = report;
        }

        /// <summary>What the user reads out to support: BUG-... It gives no access.</summary>
        public string Marker { get; }

        /// <summary>How it went.</summary>
        public UploadReport Report { get; }
    }

    /// <summary>How many events are lost.</summary>
    public sealed class EventsDroppedEventArgs : EventArgs
    {
        internal EventsDroppedEventArgs(ulong count)
        {
            Count = count;
        }

        /// <summary>So many.</summary>
        public ulong Count { get; }
    }

    /// <summary>What could not be done in the background.</summary>
    public sealed class TuntrailFailedEventArgs : EventArgs
    {
        internal TuntrailFailedEventArgs(Exception error)
        {
            Error = error;
        }

        /// <summary>Why.</summary>
        public Exception Error { get; }
    }
}
