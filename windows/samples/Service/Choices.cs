using System;
using System.IO;
using Tuntrail;

namespace ExampleVpn
{
    /// <summary>What the user and the administrator chose, kept in a file of the service. Any thread may read; one at a time may save.</summary>
    public sealed class Choices
    {
        private readonly string file;

        /// <summary>Reads the file. Without one, or with one that can't be understood, nobody has chosen anything.</summary>
        public Choices(string file)
        {
            this.file = file;
            Consent = Consent.Unknown;
            ExitFlows = ExitFlows.Aggregated;
            string[] lines = File.Exists(file) ? File.ReadAllLines(file) : new string[0];
            Consent consent;
            ExitFlows exitFlows;
            if (lines.Length == 2 && Enum.TryParse(lines[0], out consent) && Enum.TryParse(lines[1], out exitFlows)
                && Enum.IsDefined(typeof(Consent), consent) && Enum.IsDefined(typeof(ExitFlows), exitFlows))
            {
                Consent = consent;
                ExitFlows = exitFlows;
            }
        }

        /// <summary>Whether recording and sending on demand are allowed.</summary>
        public Consent Consent { get; private set; }

        /// <summary>What is recorded of traffic to the Internet.</summary>
        public ExitFlows ExitFlows { get; private set; }

        /// <summary>Keeps a choice. It is on disk when this returns; if it throws, the old one is, and the new one holds until the end.</summary>
        public void Save(Consent consent, ExitFlows exitFlows)
        {
            Consent = consent;
            ExitFlows = exitFlows;
            string next = file + ".new";
            File.WriteAllLines(next, new[] { consent.ToString(), exitFlows.ToString() });
            if (File.Exists(file))
            {
                File.Replace(next, file, null);
            }
            else
            {
                File.Move(next, file);
            }
        }
    }
}
