using System;
using System.Collections.Generic;

namespace Tuntrail
{
    /// <summary>
    /// Whom to tell of an upload's progress, by the upload's number. An upload stays here for the first end that is told after its
    /// own: its last progress may come after its result. Any thread.
    /// </summary>
    internal sealed class Uploads
    {
        /// <summary>Uploads that have ended and wait to be swept, at most: events may have been dropped.</summary>
        private const int MaxEnded = 16;

        private readonly Dictionary<ulong, IProgress<UploadProgress>> progress = new Dictionary<ulong, IProgress<UploadProgress>>();
        private readonly Queue<ulong> ended = new Queue<ulong>();

        /// <summary>Starts an upload. Progress that comes before its number is known waits for it.</summary>
        internal Upload Begin(Func<Upload> start, IProgress<UploadProgress> told)
        {
            lock (progress)
            {
                Upload upload = start();
                if (told != null)
                {
                    progress.Add(upload.Id(), told);
                }
                return upload;
            }
        }

        /// <summary>Whom to tell; null if nobody asked.</summary>
        internal IProgress<UploadProgress> Progress(ulong upload)
        {
            lock (progress)
            {
                IProgress<UploadProgress> told;
                progress.TryGetValue(upload, out told);
                return told;
            }
        }

        /// <summary>The upload's result is known.</summary>
        internal void End(ulong upload)
        {
            lock (progress)
            {
                if (!progress.ContainsKey(upload))
                {
                    return;
                }
                ended.Enqueue(upload);
                if (ended.Count > MaxEnded)
                {
                    progress.Remove(ended.Dequeue());
                }
            }
        }

        /// <summary>An end was told, so everything before it was.</summary>
        internal void Sweep()
        {
            lock (progress)
            {
                while (ended.Count > 0)
                {
                    progress.Remove(ended.Dequeue());
                }
            }
        }

        /// <summary>How many are here.</summary>
        internal int Count
        {
            get
            {
                lock (progress)
                {
                    return progress.Count;
                }
            }
        }
    }
}
